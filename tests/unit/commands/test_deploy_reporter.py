"""What people are told of deploys, on its real way: a project, the history, a process, HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.alerts.receiver import receiver
from voiceops.cli.command import CommandRun
from voiceops.commands.deploy_reporter import DeployReporter
from voiceops.errors import ConfigError
from voiceops.model.history import DeployRecord

KEY = "0123456789abcdef0123456789abcdef"


def project(folder: Path, monkeypatch: pytest.MonkeyPatch, notify: str, url: str) -> CommandRun:
    alerts = f"alerts: {{webhook_url: '{url}', webhook_key: {KEY}}}" if url else "alerts: {}"
    (folder / "inventory.yaml").write_text(
        f"all:\n  vars:\n    project: frontdesk\n    {alerts}\n    deploy:\n      notify: {notify}\n"
        "  hosts: {web1: {}, web2: {}}\n"
    )
    monkeypatch.chdir(folder)
    return CommandRun(host="web1,web2")


def record(host: str, **changes: Any) -> DeployRecord:
    values = {
        "id": f"{host}-{len(changes)}",
        "host": host,
        "at": 1e9,
        "action": "deploy",
        "ok": True,
        "by": "ann",
    }
    return DeployRecord(**{**values, "release": "r2", "changed_count": 3, "took_s": 4.2, **changes})


RECORDS = (
    record("web1"),
    record("web2", ok=False, detail="the agent did not answer"),
    record("web2", action="rollback", release="r1", changed_count=1),
)


def test_each_kind_of_end_that_is_asked_for_is_one_signed_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as got:
        run = project(tmp_path, monkeypatch, "[start, success, failure, rollback]", f"http://{got.url}/hook")
        reporter = DeployReporter(run, "deploy", by="ann@laptop")
        reporter.started(["web1", "web2"])
        reporter.ended(RECORDS)
    told = {one["state"]: one for one in (json.loads(body) for _, _, body in got.requests)}
    assert set(told) == {"started", "succeeded", "failed", "rolled-back"}
    assert told["started"]["host"] == "web1, web2"
    assert told["started"]["sentence"] == "ann@laptop began to deploy 2 hosts."
    assert told["succeeded"]["sentence"] == "web1: deploy by ann, 3 changes, release r2, 4 s"
    assert told["failed"]["sentence"].endswith("the agent did not answer")
    assert told["failed"]["fix"] == "inv history --deploys"
    assert told["rolled-back"]["host"] == "web2"


def test_only_what_is_asked_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as got:
        run = project(tmp_path, monkeypatch, "[failure]", f"http://{got.url}/hook")
        reporter = DeployReporter(run, "deploy", by="ann")
        reporter.started(["web1"])
        reporter.ended(RECORDS)
    assert [json.loads(body)["state"] for _, _, body in got.requests] == ["failed"]


def test_a_channel_that_refuses_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiver() as got:
        got.status = 500
        run = project(tmp_path, monkeypatch, "[success]", f"http://{got.url}/hook")
        DeployReporter(run, "deploy", by="ann").ended(RECORDS)
    assert "warning: webhook was not told of the deploy: it answered 500" in capsys.readouterr().err


def test_to_tell_nobody_is_refused_where_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = project(tmp_path, monkeypatch, "[start]", "")
    with pytest.raises(ConfigError, match="no alert channel is declared") as caught:
        DeployReporter(run, "deploy", by="ann")
    assert "inventory.yaml:6: " in str(caught.value)
