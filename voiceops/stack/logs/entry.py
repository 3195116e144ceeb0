"""What one line of a log says: level, message and fields, for people and for filters. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from voiceops.stack.logs.files import structured

LEVELS = ("debug", "info", "warning", "error")
_SYNONYMS = {"trace": "debug", "warn": "warning", "critical": "error", "fatal": "error", "panic": "error"}
_MESSAGE_KEYS = ("message", "msg")
_TRACE_KEY = "exc_info"
_DULL_KEYS = frozenset(
    {"level", "name", "logger", "caller", "pid", "ts", "timestamp", "stack", _TRACE_KEY, *_MESSAGE_KEYS}
    | {"code.file.path", "code.function.name", "code.line.number", "nodeID", "service", "remote"}
)
_LONGEST_VALUE = 120
_MOST_PARTS = 4
"""Of an object inside a line; `--raw` shows all of them."""
_TOKEN = re.compile(r"eyJ[\w-]{10,}\.[\w-]+\.[\w-]*")
_DURATION = re.compile(r"[dD]uration|[eE]lapsed|[lL]atency|threshold|[a-z]Time$|_time$")
_LEVEL_WORD = re.compile(r"\b(TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL|PANIC)\b")
_READS = frozenset({"ListRooms", "ListParticipants", "GetParticipant", "ListDispatch"})
"""What asks livekit-server and changes nothing: voiceops' own status, among others."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A structured line."""

    level: str
    message: str
    fields: Mapping[str, object]
    """Its own fields, without those that every line has; objects inside are flat: ``a.b``."""
    trace: str = ""

    @property
    def polls(self) -> bool:
        """Whether it tells only that somebody has read from livekit-server, with success."""
        return self.fields.get("method") in _READS and self.fields.get("status") in ("200", 200)


def entry_of(text: str) -> Entry | None:
    """The parts of a line of JSON that has a message; None for any other line."""
    found = structured(text)
    if found is None or not any(key in found for key in _MESSAGE_KEYS):
        return None
    message = str(next(found[key] for key in _MESSAGE_KEYS if key in found))
    trace = str(found.get(_TRACE_KEY) or "")
    level = str(found.get("level", "info")).lower()
    fields = {
        key: value for key, value in _flat(found) if key not in _DULL_KEYS and value not in ("", None, [], {})
    }
    level = _SYNONYMS.get(level, level)
    return Entry(level, message.rstrip(), fields, "" if trace.strip() in message else trace.rstrip())


def _flat(fields: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in fields.items():
        if key == "pii" and isinstance(value, dict):
            # Marked for those who hand logs on; whoever reads them here looks for the room.
            yield from ((name, one) for name, one in value.items() if name not in fields)
        elif isinstance(value, dict):
            parts = [
                (f"{key}.{name}", one)
                for name, one in _flat(value)
                if one not in ("", None, [], {}) and fields.get(name) != one
            ]
            yield from parts[:_MOST_PARTS]
            if len(parts) > _MOST_PARTS:
                yield f"{key}.more", len(parts) - _MOST_PARTS
        else:
            yield key, value


def level_of_text(text: str, before: str) -> str:
    """The level of a line that is no JSON; one that says none goes on with that of the line ``before``."""
    if text.startswith("Traceback (most recent call last)"):
        return "error"
    if found := _LEVEL_WORD.search(text[:120]):
        word = found[1].lower()
        return _SYNONYMS.get(word, word)
    return before


def shown_fields(fields: Mapping[str, object]) -> str:
    """``key=value`` for each, durations with their unit."""
    return " ".join(f"{name}={value}" for name, value in (_shown(*pair) for pair in fields.items()))


def _shown(name: str, value: object) -> tuple[str, str]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if name.endswith("_s"):
            return name.removesuffix("_s"), duration(value)
        if name.endswith("_ms"):
            return name.removesuffix("_ms"), duration(value / 1000)
        if isinstance(value, float) and 0 <= value < 1e6 and _DURATION.search(name):
            return name, duration(value)
    return name, _short(value)


def duration(seconds: float) -> str:
    """``40 us``, ``257 ms``, ``1.86 s``, ``12 min``."""
    if seconds == 0:
        return "0 s"
    if abs(seconds) < 0.9995e-3:
        return f"{seconds * 1e6:.0f} us"
    if abs(seconds) < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if abs(seconds) < 100:
        return f"{seconds:.3g} s"
    return f"{seconds:.0f} s" if abs(seconds) < 600 else f"{seconds / 60:.0f} min"


def _short(value: object) -> str:
    if isinstance(value, list):
        text = ",".join(_short(one) for one in value if one not in ("", None))
    elif isinstance(value, str):
        text = value
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    text = text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
    if text.isprintable() and (" " not in text or isinstance(value, list)):
        return text
    return json.dumps(text, ensure_ascii=False)


def redacted(text: str) -> str:
    """livekit-server repeats a refused token in its log: nobody needs to see it again."""
    return _TOKEN.sub("[token]", text)
