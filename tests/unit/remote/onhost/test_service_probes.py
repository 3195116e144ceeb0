"""How a host asks its services: real processes, as whose user they run, and with their variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voiceops.remote.diagnosis_messages import ServiceProbe
from voiceops.remote.onhost import service_probes
from voiceops.remote.onhost.disks import disk_states
from voiceops.remote.onhost.service_probes import probe_services

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="programs on hosts run as root")
NOBODY = 65534


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Any]:
    """The unit of a service that runs as nobody."""
    with subprocess.Popen(
        ["sleep", "100"],
        env={"VOICEOPS_SERVICE": "front/db/d", "OWN": "its own"},
        user=NOBODY,
        group=NOBODY,
        cwd="/usr",
    ) as process:
        yield {"unit": "front-db.service", "active": "active", "pid": process.pid}
        process.kill()


def probe(tmp_path: Path, program: str, **lines: str) -> ServiceProbe:
    return {
        "unit": "front-db.service",
        "argv": ["/bin/sh", "-c", program],
        "env": {"GIVEN": "pass word"},
        "refusals": ["WRONGPASS"],
        "environment": str(tmp_path / "db.env"),
        "lines": lines,
    }


def test_it_is_asked_as_its_user_in_its_folder_with_its_variables(running: Any, tmp_path: Path) -> None:
    program = 'echo "$(id -u) $(id -G)" $PWD "$OWN, $GIVEN"; exit 1'
    probe_services([running], [probe(tmp_path, program)])
    assert running["unready"] == f"{NOBODY} {NOBODY} /usr its own, pass word"
    assert running["refused"] is False


def test_one_that_is_well_has_nothing_said_of_it_and_a_refusal_is_told_by_what_is_printed(
    running: Any, tmp_path: Path
) -> None:
    probe_services([running], [probe(tmp_path, "echo PONG")])
    assert (running.get("unready"), running.get("refused")) == (None, None)
    text = "echo WRONGPASS invalid; echo not ready after 0 s: redis-cli exits 1; exit 1"
    probe_services([running], [probe(tmp_path, text)])
    assert (running["unready"], running["refused"]) == ("WRONGPASS invalid", True)


def test_one_that_hangs_is_given_up_and_one_that_is_stopped_is_not_asked(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_probes, "PROBE_S", 0.2)
    hangs = probe(tmp_path, "sleep 100")
    probe_services([running], [hangs])
    assert running["unready"] == "gives no answer in 0.2 s"
    stopped: Any = {**running, "stopped": True, "unready": ""}
    probe_services([stopped], [hangs])
    assert stopped["unready"] == ""


def test_variables_that_the_environment_file_has_not_are_named(tmp_path: Path) -> None:
    unit: Any = {"unit": "front-db.service", "active": "inactive", "pid": 0}
    lines = {"A": 'A="1"\n', "B": 'B="two\nlines"\n', "C": 'C="x"\n'}
    probe_services([unit], [probe(tmp_path, "", **lines)])
    assert unit["undeployed"] == [], "a host without the file says nothing"
    (tmp_path / "db.env").write_text('A="1"\nB="two\nlines"\nXC="x"\n')
    probe_services([unit], [probe(tmp_path, "", **lines)])
    assert unit["undeployed"] == ["C"]


def test_each_file_system_is_told_once_with_those_whose_data_are_on_it(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    folders = {str(tmp_path / "db"): "db", str(tmp_path / "page"): "page", "/proc": "proc"}
    own, proc, *_ = disk_states(str(tmp_path), folders)
    assert (own["folder"], own["data"]) == (str(tmp_path), ["db"])
    assert own["free_bytes"] > 0
    assert (proc["folder"], proc["data"]) == ("/proc", ["proc"])
