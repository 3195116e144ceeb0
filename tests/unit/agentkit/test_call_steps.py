"""The file by which a server's monitor knows of calls: what stands in it, and what does not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from voiceops.agentkit.call_steps import CallStepFile
from voiceops.agentkit.lifecycle import Lifecycle
from voiceops.model import protocol
from voiceops.stack.logs.call_steps import CallStepReader


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calls" / "agent.jsonl"


def logged(file: Path, *messages: str, room: str = "alice", limit_bytes: int = 10_000) -> None:
    """Let a call say these things, as its log has them."""
    logger = logging.getLogger(protocol.CALL_LOGGER)
    handler = CallStepFile(file, limit_bytes=limit_bytes)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        steps = Lifecycle("AJ_1", pii={"room": room})
        for message in messages:
            if message in (protocol.CALLER_JOINED, protocol.CALLER_LEFT):
                steps.caller(message, "PA_1", present_s=0.5)
            else:
                steps.emit(message, reason="room closed")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def test_the_monitor_reads_from_it_who_came_and_left_but_not_where(file: Path) -> None:
    logged(file, "caller joined", "call connected", "call ready", "caller left", "call ended")
    steps = CallStepReader("web1", [file]).read(0.0)
    assert [one.kind for one in steps] == ["caller joined", "call ready", "caller left", "call ended"]
    assert {(one.call_id, one.room) for one in steps} == {("AJ_1", "")}
    assert (steps[0].caller_sid, steps[0].present_s, steps[3].reason) == ("PA_1", 0.5, "room closed")
    assert "alice" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_synthetic_calls_are_left_out(file: Path) -> None:
    logged(file, "caller joined", room=f"{protocol.CALL_ROOM_PREFIX}1")
    assert not file.exists()


def test_a_file_that_has_grown_begins_anew_and_no_line_is_lost(file: Path) -> None:
    reader = CallStepReader("web1", [file])
    for _ in range(3):
        logged(file, "caller joined", "caller left", limit_bytes=400)
        assert [one.kind for one in reader.read(0.0)] == ["caller joined", "caller left"]
    assert file.with_name("agent.jsonl.1").exists()
    assert len(list(file.parent.iterdir())) == 2


def test_a_file_that_cannot_be_written_is_told_once_and_costs_no_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "calls").write_text("no folder")
    logged(tmp_path / "calls" / "agent.jsonl", "caller joined", "caller left")
    assert [one.message for one in caplog.records].count("calls can't be told to the monitor") == 1
