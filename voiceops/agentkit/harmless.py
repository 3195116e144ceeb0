"""Log lines of livekit-agents that every healthy call leaves when its room closes: no warnings, no tracebacks.

Whoever reads a log for the cause of a fault would take them for it.
"""

from __future__ import annotations

import logging

HARMLESS = (
    # livekit-agents 1.8, voice/remote_session.py: events of the session that come after the room has closed.
    ("failed to send session event", "room session transport is closed"),
    # The same while the room closes: livekit's data channel refuses, or its engine has gone.
    ("failed to send session event", "failed to send binary stream message: unable to send packet"),
    ("failed to send session event", "failed to send binary stream message: internal error"),
    ("failed to publish agent transcription to room", "unable to send packet"),
    ("failed to publish agent transcription to room", "internal error"),
    ("failed to publish agent transcription to room", "stream has already been closed"),
    # livekit's rtc_session.rs, each time that the server closes the connection first, as by DeleteRoom.
    ("publisher data channel", "closed unexpectedly"),
    # The same, in one call of 300: the engine's own loop has ended before its data channel.
    ("failed to send dc_event", "SendError"),
    # The same: an offer was still being made.
    ("failed to negotiate the publisher", "Called in wrong state: closed"),
)
"""What a message contains: all parts of one row."""


def is_harmful(record: logging.LogRecord) -> bool:
    """Whether a line may go into the log as it is; for a log handler's filter."""
    if record.levelno <= logging.INFO:
        return True
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += f" {record.exc_info[1]}"
    return not any(all(part in text for part in row) for row in HARMLESS)
