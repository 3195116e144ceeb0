"""The monitor's log: what it did and why, one line each, and who else hears of it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from voiceops.model.monitor_events import AlertRaised, Incident, MonitorEvent, ProbeCall, Repair
from voiceops.ports import MonitorRecorder
from voiceops.util.times import iso_time


def log_line(message: str, level: str = "info", room: str = "") -> str:
    """Return a line of the service's log, as ``inv logs`` reads it; a room can identify a caller."""
    line: dict[str, object] = {"timestamp": iso_time(time.time()), "level": level, "message": message}
    if room:
        line["pii"] = {"room": room}
    return msgspec.json.encode(line).decode()


def described(event: MonitorEvent) -> tuple[str, str, str]:
    """Return message, level and room of an event; no message where the log needs none."""
    if isinstance(event, Incident):
        if event.ended_at is None:
            return f"incident {event.cause}: {event.sentence}", "warning", event.room
        lasted_s = event.ended_at - event.began_at
        return f"incident {event.cause} is over after {lasted_s:.1f} s: {event.sentence}", "info", event.room
    if isinstance(event, Repair):
        what = " ".join(filter(None, (event.action, event.subject)))
        if not event.ok:
            return f"{what} failed (attempt {event.attempt}): {event.error}", "error", event.room
        return f"{what} done in {event.took_s:.1f} s: {event.reason}", "warning", event.room
    if isinstance(event, AlertRaised):
        over = "is over: " if event.resolved else ""
        return f"alert {event.alert} {over}{event.sentence}", "info" if event.resolved else "error", ""
    if isinstance(event, ProbeCall) and not event.ok:
        return f"the probe call was not answered: {event.error}", "error", ""
    return "", "", ""


class EventLog(MonitorRecorder):
    """Writes incidents, repairs and alerts to the log, and hands every event on to the ``others``."""

    def __init__(self, write: Callable[[str], None], others: Sequence[MonitorRecorder] = ()) -> None:
        self._write = write
        self._others = others

    def record(self, event: MonitorEvent) -> None:
        message, level, room = described(event)
        if message:
            self._write(log_line(message, level, room))
        for other in self._others:
            other.record(event)

    def close(self) -> None:
        for other in self._others:
            other.close()


class RecorderLog(logging.Handler):
    """Writes what recorders log, such as that the history can't be written, to the monitor's own log."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        details = [str(getattr(record, name, "") or "") for name in ("channel", "error", "hint")]
        message = ": ".join(filter(None, (record.getMessage(), *details)))
        self._write(log_line(message, record.levelname.lower()))


def write_line(line: str) -> None:
    """Write to this service's log; a full disk must not end the monitor."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        return
