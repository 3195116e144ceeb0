"""The last lines of this machine's logs as events, each read once: for whoever diagnoses again and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from voiceops.doctor.facts import LogEvent
from voiceops.doctor.logs import event_of
from voiceops.stack.logs.files import TimedLine, time_of
from voiceops.stack.logs.new_lines import NewLines

FIRST_BYTES = 1_000_000
MOST_EVENTS = 2_000
"""Of each log."""
_QUIET = frozenset({"debug", "trace"})


class RecentEvents:
    """Reads what was added to each log since the last time, and keeps the last events of it."""

    def __init__(self, logs: Sequence[tuple[str, Path]]) -> None:
        """``logs``: service and file."""
        self._logs = [
            (service, NewLines(file, first_bytes=FIRST_BYTES), deque[LogEvent](maxlen=MOST_EVENTS))
            for service, file in logs
        ]

    def read(self, since: float) -> tuple[LogEvent, ...]:
        """The events from then on, oldest first."""
        for service, log, kept in self._logs:
            for line in log.read():
                text = line.removesuffix(b"\n").decode(errors="surrogateescape")
                # A line without a time was written with the one above it.
                at = time_of(text) or (kept[-1].at if kept else 0.0)
                event = event_of(TimedLine(at, service, text))
                if event.level not in _QUIET:
                    kept.append(event)
        found = [event for _, _, kept in self._logs for event in kept if event.at >= since]
        return tuple(sorted(found, key=lambda event: event.at))
