"""Values that remember the file and line they were written at, and how they merge.

A mistake found after twelve files were merged still names the line it stands on,
because every key carries its place through the merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from voiceops.errors import ConfigError


class SourceLocation(NamedTuple):
    """Where something is written; ``line`` is None for what a program printed."""

    file: str
    line: int | None = None

    def error(self, message: str, *, path: str | None = None, hint: str | None = None) -> ConfigError:
        """A ``ConfigError`` that points here."""
        return ConfigError(message, file=self.file, line=self.line, path=path, hint=hint)

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class LocatedMapping(dict[Any, Any]):
    """A dict with the place of each key. Treated as frozen once it is built."""

    __slots__ = ("places",)

    def __init__(self, items: Any = (), places: dict[Any, SourceLocation] | None = None) -> None:
        super().__init__(items)
        self.places: dict[object, SourceLocation] = places if places is not None else {}


class LocatedList(list[Any]):
    """A list with the place of each element."""

    __slots__ = ("places",)

    def __init__(self, items: Iterable[object] = (), places: list[SourceLocation] | None = None) -> None:
        super().__init__(items)
        self.places: list[SourceLocation] = places if places is not None else []


class UnsafeText(str):
    """Text under YAML's ``!unsafe`` tag: Ansible never templates it, and says so when it prints it."""

    __slots__ = ()


def merged(low: LocatedMapping, high: LocatedMapping) -> LocatedMapping:
    """``high`` over ``low`` as Ansible's ``hash_behaviour=merge``: dicts deeply, all else replaced.

    Not associative (a scalar between two dicts cuts them apart), so callers keep Ansible's order.
    """
    if not low:
        return high
    if not high:
        return low
    result = LocatedMapping(low, dict(low.places))
    for key, value in high.items():
        mine = result.get(key)
        if isinstance(mine, LocatedMapping) and isinstance(value, LocatedMapping):
            value = merged(mine, value)
        result[key] = value
        place = high.places.get(key)
        if place is not None:
            result.places[key] = place
    return result


def location_of(root: object, path: Sequence[object], default: SourceLocation) -> SourceLocation:
    """The place of ``path`` below ``root``, or of its nearest ancestor that has one."""
    best = default
    value = root
    for step in path:
        if isinstance(value, LocatedMapping):
            best = value.places.get(step, best)
            value = value.get(step)
        elif isinstance(value, LocatedList) and isinstance(step, int) and step < len(value):
            if step < len(value.places):
                best = value.places[step]
            value = value[step]
        else:
            break
    return best


def located(value: object, place: SourceLocation) -> object:
    """Plain JSON data (a script's output) as located values, all at one place."""
    if isinstance(value, dict):
        return LocatedMapping({k: located(v, place) for k, v in value.items()}, dict.fromkeys(value, place))
    if isinstance(value, list):
        return LocatedList([located(v, place) for v in value], [place] * len(value))
    return value


def dotted(path: Sequence[object]) -> str:
    """``services.agent.needs[0]``: how people write a path."""
    text = ""
    for step in path:
        if isinstance(step, int) and not isinstance(step, bool):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else str(step)
    return text
