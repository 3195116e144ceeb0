"""Calls in the logs of agents: only what is new, across rotation, whatever else stands there."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from voiceops.stack.logs.call_steps import CallStepReader
from voiceops.stack.logs.files import rotate_running

NOW = 1_800_000_000.0


def line(message: str, at: float = NOW, **fields: object) -> str:
    stamp = datetime.fromtimestamp(at, timezone.utc).isoformat()
    document = {"message": message, "name": "voiceops.agentkit.calls", "call_id": "AJ", "timestamp": stamp}
    return json.dumps(document | {"pii": {"room": "r"}} | fields) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "agent.log"


def kinds(reader: CallStepReader, since: float = 0.0) -> list[str]:
    return [step.kind for step in reader.read(since)]


def test_a_line_tells_who_joined_where_and_since_when(log: Path) -> None:
    log.write_text(line("caller joined", caller_sid="PA_1", present_s=0.4))
    (step,) = CallStepReader("localhost", [log]).read(0.0)
    assert (step.at, step.host, step.kind, step.call_id) == (NOW, "localhost", "caller joined", "AJ")
    assert (step.room, step.caller_sid, step.present_s) == ("r", "PA_1", 0.4)


def test_each_line_is_read_once(log: Path) -> None:
    reader = CallStepReader("localhost", [log])
    assert kinds(reader) == []
    log.write_text(line("caller joined"))
    assert kinds(reader) == ["caller joined"]
    with log.open("a") as file:
        file.write(line("call ready")[:-20])
        file.flush()
        assert kinds(reader) == []  # it is not finished
        file.write(line("call ready")[-20:])
    assert kinds(reader) == ["call ready"]
    assert kinds(reader) == []


def test_what_was_written_before_is_left_out(log: Path) -> None:
    log.write_text(line("caller joined", NOW - 60) + line("caller left", NOW))
    assert kinds(CallStepReader("localhost", [log]), since=NOW - 1) == ["caller left"]


def test_a_log_that_is_rotated_loses_no_line(log: Path) -> None:
    reader = CallStepReader("localhost", [log])
    log.write_text("x" * 2000 + "\n" + line("caller joined"))
    assert kinds(reader) == ["caller joined"]
    with log.open("a") as file:
        file.write(line("call ready"))
    assert rotate_running(log, 100, 2)
    with log.open("a") as file:
        file.write(line("caller left"))
    assert kinds(reader) == ["call ready", "caller left"]


@pytest.mark.parametrize(
    "text",
    [
        "plain text\n",
        "{broken\n",
        '{"message": 1, "name": "voiceops.agentkit.calls"}\n',
        '{"message": "caller joined", "name": "voiceops.agentkit.calls"}\n',
        '{"message": "caller joined", "name": "mine", "about": "voiceops.agentkit.calls"}\n',
        line("call connected"),
        line("caller joined", pii="none"),
    ],
)
def test_other_lines_are_no_steps(log: Path, text: str) -> None:
    log.write_bytes(text.encode() + b"\xff voiceops.agentkit.calls\n" + line("call ready").encode())
    assert kinds(CallStepReader("localhost", [log])) == ["call ready"]


def test_the_logs_of_several_agents_come_in_the_order_of_their_time(tmp_path: Path) -> None:
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    logs[0].write_text(line("call ready", NOW + 2))
    logs[1].write_text(line("caller joined", NOW + 1))
    assert kinds(CallStepReader("localhost", logs)) == ["caller joined", "call ready"]
