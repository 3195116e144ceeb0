"""From log lines to events: livekit-server's and livekit-agents' JSON, anything else as plain text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from voiceops.doctor.facts import LogEvent
from voiceops.stack.logs.files import TimedLine, merged


def read_events(logs: Sequence[tuple[str, Path, int]], *, since: float) -> tuple[LogEvent, ...]:
    """The events of several logs merged by time, oldest first.

    ``logs`` are service name, file, and how many rotated files may lie beside it.
    """
    return tuple(event_of(line) for line in merged(logs, since))


def event_of(line: TimedLine) -> LogEvent:
    """One line as an event; lines that are no JSON object keep their text as message.

    Of the fields only plain values stay, and ``pii``: livekit-server writes its whole configuration of
    a connection, 16 KB, into the line of each participant who joins.
    """
    fields = _plain_fields(line.text) if line.text.startswith("{") else None
    if fields is None:
        return LogEvent(service=line.service, at=line.at, level="", message=line.text)
    return LogEvent(
        service=line.service,
        at=line.at,
        level=str(fields.get("level", "")).lower(),
        message=str(fields.get("msg", fields.get("message", ""))),
        fields=fields,
    )


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder()


def _plain_fields(text: str) -> dict[str, object] | None:
    try:
        raw = _object.decode(text)
        return {
            sys.intern(name): _value.decode(value)
            for name, value in raw.items()
            if name == "pii" or bytes(value)[:1] not in (b"{", b"[")
        }
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
