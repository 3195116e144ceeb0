"""From log lines to events: livekit-server's and livekit-agents' JSON, anything else as plain text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from voiceops.doctor.facts import LogEvent
from voiceops.stack.log_files import Line, merged


def read_events(logs: Sequence[tuple[str, Path, int]], *, since: float) -> tuple[LogEvent, ...]:
    """The events of several logs merged by time, oldest first.

    ``logs`` are service name, file, and how many rotated files may lie beside it.
    """
    return tuple(event_of(line) for line in merged(logs, since))


def event_of(line: Line) -> LogEvent:
    """One line as an event; lines that are no JSON object keep their text as message."""
    if line.text.startswith("{"):
        try:
            fields = json.loads(line.text)
        except ValueError:
            fields = None
        if isinstance(fields, dict):
            return LogEvent(
                service=line.service,
                at=line.at,
                level=str(fields.get("level", "")).lower(),
                message=str(fields.get("msg", fields.get("message", ""))),
                fields=fields,
            )
    return LogEvent(service=line.service, at=line.at, level="", message=line.text)
