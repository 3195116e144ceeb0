"""What a host tells of its services, in the exec of a check and in execs of its own; systemctl's words are given."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from voiceops.remote.diagnosis_messages import DiagnoseRequest
from voiceops.remote.messages import CheckRequest, HostProbe, RecordReleases
from voiceops.remote.onhost import diagnosis, paths, unit_state
from voiceops.remote.onhost.base import Child
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.check import check_resources
from voiceops.remote.onhost.diagnosis import diagnose_host
from voiceops.remote.onhost.observe import observe_services
from voiceops.remote.onhost.releases import record_releases

CHANNEL = Channel("")
WEB = """\
Id=front-web.service
Names=front-web.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NRestarts=2
MainPID=0
Environment=VOICEOPS_UNIT=front/web X=y
EnvironmentFiles=/etc/front/web.env (ignore_errors=no)
MemoryCurrent=[not set]
CPUUsageNSec=12000
Type=exec
"""
AGENT = WEB.replace("front-web", "front-agent@r2")


class Systemctl:
    """Remembers what was asked of systemctl, and says that both units run."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, argv: Sequence[str], *_: Any, **__: Any) -> Child:
        self.asked.append(list(argv))
        return Child(0, "\n".join([WEB, AGENT]))


@pytest.fixture
def systemctl(monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    fake = Systemctl()
    monkeypatch.setattr(unit_state, "run_child", fake)
    return fake


def probe(folder: Path) -> HostProbe:
    return {
        "state_dir": str(folder),
        "patterns": ["front-*.service"],
        "ports": [],
        "entries": [],
        "url": "",
        "opt": str(folder),
        "releases": ["r1", "r2"],
    }


def ledger(folder: Path) -> None:
    (folder / "format").write_text("1")
    (folder / "current").mkdir()
    (folder / "current/agent").symlink_to("../releases/r2")
    current = {"services": {"agent": {"release": "r2", "digest": "d2"}}, "at": 1.0}
    (folder / "current.json").write_text(json.dumps(current))
    lines = [
        {"service": "agent", "release": name, "result": result}
        for name, result in (("r1", "bad"), ("r2", "ok"))
    ]
    (folder / "releases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_units_links_and_the_ledger_are_observed(systemctl: Systemctl, tmp_path: Path) -> None:
    ledger(tmp_path)
    found = observe_services(probe(tmp_path))
    units = {unit["unit"]: unit for unit in found["units"]}
    assert set(units) == {"front-web.service", "front-agent@r2.service"}
    web = units["front-web.service"]
    assert (web["active"], web["restarts"], web["cpu_ns"], web["memory_bytes"]) == ("active", 2, 12000, None)
    assert web["files"] == ["/etc/front/web.env"]
    assert found["current"].get("services") == {"agent": {"release": "r2", "digest": "d2"}}
    assert found["links"] == {"agent": "../releases/r2"}
    assert set(found["bad"]) == {"r1"}


def test_one_systemctl_serves_resources_and_services(systemctl: Systemctl, tmp_path: Path) -> None:
    ledger(tmp_path)
    unit = {"id": "unit:front-web.service", "type": "unit", "name": "front-web.service", "enabled": True}
    request: CheckRequest = {
        "state_dir": str(tmp_path),
        "resources": [unit | {"running": True, "settle_s": 1.5, "needs": []}],
        "diff": False,
        "probe": probe(tmp_path),
    }
    answer = check_resources(request, CHANNEL)
    assert answer["failed"] == ""
    assert [result["result"] for result in answer["results"]] == ["ok"]
    assert {one["unit"] for one in answer["observation"]["units"]} == {
        "front-web.service",
        "front-agent@r2.service",
    }
    (asked,) = systemctl.asked
    assert asked[-2:] == ["front-web.service", "front-*.service"]


def test_services_are_not_observed_where_a_resource_fails(systemctl: Systemctl, tmp_path: Path) -> None:
    ledger(tmp_path)
    (tmp_path / "folder").mkdir()
    link = {"id": "symlink:x", "type": "symlink", "path": str(tmp_path / "folder"), "target": "y"}
    request: CheckRequest = {
        "state_dir": str(tmp_path),
        "resources": [link],
        "diff": False,
        "probe": probe(tmp_path),
    }
    answer = check_resources(request, CHANNEL)
    assert answer["failed"] == "symlink:x"
    assert "observation" not in answer
    assert systemctl.asked == []


def test_a_diagnosis_has_logs_and_the_machine_beside_the_services(
    systemctl: Systemctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger(tmp_path)
    asked: list[Any] = []

    def lines(units: list[str], since: float) -> list[tuple[float, str, str]]:
        asked.append((units, since))
        return [(1.0, units[0], "text")]

    monkeypatch.setattr(diagnosis, "unit_lines", lines)
    request: DiagnoseRequest = {
        **probe(tmp_path),
        "units": ["front-web.service"],
        "window_s": 60.0,
        "probes": [],
        "folders": {},
    }
    found = diagnose_host(request, CHANNEL)
    assert found["lines"] == [(1.0, "front-web.service", "text")]
    assert asked == [(["front-web.service"], found["now"] - 60.0)]
    assert found["machine"]["disk_free_bytes"] > 0
    assert len(found["units"]) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="programs on hosts run as root")
def test_what_nobody_needs_goes_when_releases_are_recorded(systemctl: Systemctl, tmp_path: Path) -> None:
    ledger(tmp_path)
    for name in ("r0", "r1", "r2", "r3", "theirs", ".x" + paths.HALF):
        (tmp_path / "releases" / name).mkdir(parents=True)
    (tmp_path / "venvs/0123456789ab").mkdir(parents=True)
    (tmp_path / "venvs/mine").mkdir()
    history = (tmp_path / "releases.jsonl").read_text()
    (tmp_path / "releases.jsonl").write_text(
        json.dumps({"service": "agent", "release": "r0", "result": "ok"}) + "\n" + history
    )
    request: RecordReleases = {
        "state_dir": str(tmp_path),
        "project": "front-none",
        "opt": str(tmp_path),
        "etc": str(tmp_path),
        "group": "daemon",
        "services": {"agent": {"release": "r3", "digest": "d3"}},
        "by": "ann",
        "action": "deploy",
        "unproved": "",
        "tidy": {"units": [], "venv": "", "keep": 1},
    }
    removed = {Path(path).name for path in record_releases(request, CHANNEL)["removed"]}
    assert removed == {"r0", "r1", ".x" + paths.HALF, "0123456789ab"}
    left = {path.name for path in (tmp_path / "releases").iterdir()}
    assert left == {"r2", "r3", "theirs"}, "r2 still runs"
    assert (tmp_path / "venvs/mine").exists()
    assert (tmp_path / "current/agent").readlink() == Path("../releases/r3")
