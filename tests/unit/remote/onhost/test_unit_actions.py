"""What the program on the host makes of what systemd says."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from voiceops.remote.diagnosis_messages import JournalEntry
from voiceops.remote.onhost.journal_lines import NOISE, entries_of_run, message_of
from voiceops.remote.onhost.unit_actions import LOOK_S, POLL_S, died, pause
from voiceops.remote.onhost.unit_state import counter


def unit(**changes: Any) -> Any:
    running: dict[str, Any] = {
        "active": "active",
        "sub": "running",
        "restarts": 0,
        "result": "success",
        "code": 0,
        "status": 0,
    }
    return {**running, "loaded": True, "masked": False, "job": 0, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"active": "activating", "sub": "start"}, ""),
        ({"active": "deactivating", "sub": "stop-sigterm"}, "it stops"),
        # The main process is dead already, what it started is not: that is no stop that anybody asked for.
        ({"active": "deactivating", "sub": "final-sigkill", "code": 1, "status": 1}, "it ended, exit 1"),
        ({"active": "deactivating", "sub": "final-sigkill", "code": 2, "status": 9}, "it ended, signal 9"),
        (
            {"active": "activating", "sub": "auto-restart", "code": 1, "status": 3},
            "it ended and was restarted, exit 3",
        ),
        ({"restarts": 1}, "it ended and was restarted, exit 0"),
        ({"active": "failed", "result": "timeout"}, "timeout, exit 0"),
        ({"active": "inactive"}, "it was stopped"),
        ({"active": "inactive", "job": 7}, ""),
        ({"active": "inactive", "loaded": False}, "the host has no such unit"),
    ],
)
def test_why_a_start_has_failed(changes: dict[str, Any], said: str) -> None:
    assert died(unit(**changes), 0) == said


def test_what_systemd_says_of_each_process_that_is_left_is_no_cause() -> None:
    assert NOISE.match("frontdesk-agent@a1.service: Killing process 2002 (python) with signal SIGKILL.")
    assert NOISE.match("frontdesk-agent@a1.service: Consumed 2.443s CPU time.")
    assert not NOISE.match("frontdesk-agent@a1.service: Main process exited, code=exited, status=1/FAILURE")
    assert not NOISE.match("Killing process failed: no such table")


def told(message: str, run: str) -> JournalEntry:
    """What systemd says of a run of a unit."""
    return {"MESSAGE": message, "INVOCATION_ID": run, "_SYSTEMD_INVOCATION_ID": ""}


def wrote(message: str, run: str | None = None) -> JournalEntry:
    """What a process of the unit wrote; journald names its run, if it can still find out."""
    return {"MESSAGE": message} if run is None else {"MESSAGE": message, "_SYSTEMD_INVOCATION_ID": run}


@pytest.mark.parametrize(
    "cause",
    [
        [wrote("no model", "r2"), told("exited", "r2")],
        # As seen on a host under load in 26 of 40 deaths.
        [wrote("no model"), told("exited", "r2")],
        [told("exited", "r2"), wrote("no model")],
        [wrote("no model", "r3"), told("exited", "r2")],
    ],
    ids=["its own", "of no run", "of no run, last", "of the next run"],
)
def test_the_last_words_of_a_run_are_found_whatever_journald_says_of_whose_they_are(
    cause: list[JournalEntry],
) -> None:
    before = [told("Starting", "r1"), wrote("first"), wrote("more", "r1"), told("stopped", "r1")]
    after = [told("Starting", "r3"), wrote("third"), wrote("third too", "r3")]
    entries = [*before, told("Starting", "r2"), *cause, *after]
    found = [message_of(entry) for entry in entries_of_run(entries, "r2")]
    assert found[0] == "Starting"
    assert sorted(found[1:]) == ["exited", "no model"]
    assert entries_of_run(entries, "r9") == []


def test_a_message_that_is_no_text_or_too_long_does_no_harm() -> None:
    assert message_of({"MESSAGE": [79, 75, 255]}) == "OK\ufffd"
    assert message_of({"MESSAGE": None}) == ""


def test_a_counter_that_systemd_does_not_keep_is_none() -> None:
    assert counter("12000") == 12000
    assert counter("[not set]") is None
    assert counter(str(2**64 - 1)) is None
    assert counter(None) is None


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as running:
        yield running
        running.kill()


def paused_s(pid: int, waited_s: float, *, for_s: float = 10.0) -> float:
    began = time.monotonic()
    pause(unit(pid=pid), waited_s, until=began + for_s)
    return time.monotonic() - began


def test_the_longer_a_unit_takes_the_longer_is_the_pause_before_the_next_look(
    process: subprocess.Popen[bytes],
) -> None:
    soon, late = paused_s(process.pid, 0.0), paused_s(process.pid, 60.0)
    assert POLL_S <= soon < late
    assert late >= LOOK_S
    assert paused_s(process.pid, 60.0, for_s=POLL_S) < LOOK_S, "never past the end of the wait"


def test_a_pause_ends_with_the_main_process(process: subprocess.Popen[bytes]) -> None:
    def end() -> None:
        process.kill()
        process.wait()

    threading.Timer(2 * POLL_S, end).start()
    assert paused_s(process.pid, 60.0) < LOOK_S
    assert paused_s(process.pid, 60.0) < LOOK_S, "what systemd makes of its end is known soon"
