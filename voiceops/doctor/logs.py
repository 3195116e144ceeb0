"""From log lines to events: livekit-server's and livekit-agents' JSON, anything else as plain text."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from voiceops.doctor.facts import LogEvent

TAIL_BYTES = 4_000_000
"""How far back a log is read; ten minutes of a busy server."""


def read_events(logs: Iterable[tuple[str, Path]], *, since: float) -> tuple[LogEvent, ...]:
    """The events of several logs merged by time, oldest first.

    ``logs`` are pairs of service name and file; a file that is not there has no events.
    """
    events: list[LogEvent] = []
    for service, path in logs:
        events.extend(parse_lines(service, _tail(path)))
    return tuple(sorted((event for event in events if event.at >= since), key=lambda event: event.at))


def parse_lines(service: str, lines: Iterable[str]) -> Iterator[LogEvent]:
    """Parse lines in order; one without a time of its own belongs to the moment before it."""
    at = 0.0
    for line in lines:
        if not line.strip():
            continue
        event = _parse(service, line, at)
        at = event.at
        yield event


def _parse(service: str, line: str, last_at: float) -> LogEvent:
    if line.startswith("{"):
        try:
            document = json.loads(line)
        except ValueError:
            document = None
        if isinstance(document, dict):
            return _structured(service, document, last_at)
    return LogEvent(service=service, at=last_at, level="", message=line.rstrip("\n"))


def _structured(service: str, document: dict[str, Any], last_at: float) -> LogEvent:
    return LogEvent(
        service=service,
        at=_time(document.get("ts", document.get("timestamp")), last_at),
        level=str(document.get("level", "")).lower(),
        message=str(document.get("msg", document.get("message", ""))),
        fields=document,
    )


def _time(value: Any, otherwise: float) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        except ValueError:
            return otherwise
    return otherwise


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    return lines[1:] if size > TAIL_BYTES else lines
