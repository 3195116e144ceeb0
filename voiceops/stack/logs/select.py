"""Which lines of the logs somebody asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from voiceops.stack.logs.entry import LEVELS, Entry, entry_of, level_of_text
from voiceops.stack.logs.files import TimedLine

_ROOM_KEYS = ("room", "room_name", "roomName", "lk.pii.room_name")
_ID_KEYS = ("roomID", "room_id", "jobID", "job_id", "call_id", "dispatch_id", "participantID")
"""Of one room: a line that names the room shows them, others have nothing but them."""


@dataclass(slots=True)
class LineFilter:
    """Select lines by level, text and room; remembers what it has seen, so lines come in order of time."""

    level: str = ""
    """At least this one. Empty: all but what only tells that somebody looked (`Entry.polls`)."""
    pattern: re.Pattern[str] | None = None
    room: str = ""
    everything: bool = False
    """Lines as the services wrote them: reads of livekit-server too."""
    _ids: set[str] = field(default_factory=set)
    _levels: dict[str, str] = field(default_factory=dict)
    """Service -> level of its last line: a traceback goes on without one."""
    _matched: dict[str, bool] = field(default_factory=dict)
    """Service -> whether its last line was of the room."""

    @property
    def narrows(self) -> bool:
        """Whether it may drop lines that the services wrote."""
        return bool(self.level or self.pattern or self.room or not self.everything)

    @property
    def asked(self) -> bool:
        """Whether somebody asked for a part of the lines."""
        return bool(self.level or self.pattern or self.room)

    def select(self, lines: Iterable[TimedLine]) -> Iterator[TimedLine]:
        """The lines that were asked for, as they come."""
        return (line for line in lines if self.takes(line))

    def takes(self, line: TimedLine) -> bool:
        """Whether this line, the next one of its service, was asked for."""
        entry = entry_of(line.text)
        in_room = self._in_room(line, entry) if self.room else True
        level = self._level(line, entry)
        if self.level and LEVELS.index(level) < LEVELS.index(self.level):
            return False
        if entry is not None and entry.polls and self.level != "debug" and not self.everything:
            return False
        return in_room and (self.pattern is None or self.pattern.search(line.text) is not None)

    def _level(self, line: TimedLine, entry: Entry | None) -> str:
        before = self._levels.get(line.service, "info")
        level = entry.level if entry is not None else level_of_text(line.text, before)
        level = level if level in LEVELS else "info"
        self._levels[line.service] = level
        return level

    def _in_room(self, line: TimedLine, entry: Entry | None) -> bool:
        if entry is None:
            # A traceback belongs to the line that it follows.
            own = re.search(rf"(?<![\w-]){re.escape(self.room)}(?![\w-])", line.text) is not None
            goes_on = line.text[:1].isspace() and self._matched.get(line.service, False)
            self._matched[line.service] = own or goes_on
            return own or goes_on
        ids = {str(entry.fields[key]) for key in _ID_KEYS if entry.fields.get(key)}
        named = self.room in _rooms(entry.fields)
        if named:
            self._ids |= ids
        self._matched[line.service] = named or bool(ids & self._ids)
        return self._matched[line.service]


def _rooms(fields: Mapping[str, object]) -> list[str]:
    found: list[str] = []
    for key in _ROOM_KEYS:
        value = fields.get(key)
        found += map(str, value) if isinstance(value, list) else [str(value)] if value else []
    return found
