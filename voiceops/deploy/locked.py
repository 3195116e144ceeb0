"""Pinned requirements as text: what a lock says of a package counts for more than what an index says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_ENTRY = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)(?:.*\\\n)*.*\n?", re.MULTILINE)
_HASH = re.compile(r"--hash=(\w+:[0-9a-fA-F]+)")


def with_locked_hashes(resolved: str, locks: Sequence[str]) -> str:
    """``resolved`` with the hashes of the first lock that has the same name and version.

    uv takes versions from its constraints, but hashes from the index: an index that serves another file
    under a locked name and version would otherwise be believed.
    """
    known: dict[tuple[str, str], list[str]] = {}
    for lock in locks:
        for key, _, hashes in _entries(lock):
            if hashes:
                known.setdefault(key, hashes)

    def locked(found: re.Match[str]) -> str:
        key, pinned, _ = _entry(found)
        return _written(pinned, known[key]) if key in known else found[0]

    return _ENTRY.sub(locked, resolved)


def entry_of(text: str, name: str) -> str:
    """The entry of one package, hashes included; ``KeyError`` where there is none."""
    for key, pinned, hashes in _entries(text):
        if key[0] == _normalized(name):
            return _written(pinned, hashes)
    raise KeyError(name)


_Entry = tuple[tuple[str, str], str, list[str]]
"""Name and version, the requirement without hashes, the hashes."""


def _entries(text: str) -> Iterator[_Entry]:
    return map(_entry, _ENTRY.finditer(text))


def _entry(found: re.Match[str]) -> _Entry:
    pinned = found[0].partition("\n")[0].partition(" --hash")[0].rstrip(" \\")
    return (_normalized(found[1]), found[2]), pinned, _HASH.findall(found[0])


def _written(pinned: str, hashes: Sequence[str]) -> str:
    return " \\\n    --hash=".join([pinned, *hashes]) + "\n"


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
