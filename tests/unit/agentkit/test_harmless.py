"""What a healthy call logs at its end is left out, and nothing else."""

from __future__ import annotations

import logging
import sys

import pytest

from voiceops.agentkit.harmless import is_harmful


def record(level: int, message: str, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord("livekit.agents", level, "x.py", 1, message, None, info)


def test_events_after_the_room_closed_are_left_out() -> None:
    closed = RuntimeError("room session transport is closed")
    assert not is_harmful(record(logging.WARNING, "failed to send session event", closed))
    # From a job process the traceback comes as part of the message.
    text = "failed to send session event\nTraceback (most recent call last):\nRuntimeError: room session transport is closed"
    assert not is_harmful(record(logging.WARNING, text))


@pytest.mark.parametrize("why", ["unable to send packet", "internal error"])
def test_events_that_a_closing_room_refuses_are_left_out(why: str) -> None:
    refused = RuntimeError(f"failed to send binary stream message: {why}")
    assert not is_harmful(record(logging.WARNING, "failed to send session event", refused))


@pytest.mark.parametrize("why", ["unable to send packet", "internal error", "stream has already been closed"])
def test_a_transcript_that_a_closing_room_refuses_is_left_out(why: str) -> None:
    text = f"failed to publish agent transcription to room: {why}"
    assert not is_harmful(record(logging.WARNING, text))


@pytest.mark.parametrize(
    "text",
    [
        "publisher data channel '_lossy' closed unexpectedly",
        "failed to send dc_event buffer_amount_change: SendError { .. }",
    ],
)
def test_data_channels_that_the_server_closed_are_left_out(text: str) -> None:
    assert not is_harmful(record(logging.ERROR, f"livekit::rtc_engine::rtc_session - {text}"))


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("failed to send session event", OSError("no route to host")),
        ("room session transport is closed", None),
        ("the call failed", RuntimeError("no database")),
    ],
)
def test_any_other_line_stays(message: str, error: BaseException | None) -> None:
    assert is_harmful(record(logging.WARNING, message, error))


def test_a_line_with_the_exception_that_is_handled_stays() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        assert is_harmful(
            logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed: %s", ("a",), sys.exc_info())
        )
