"""Numbers and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int | None, noun: str, plural: str = "") -> str:
    """``1 room``, ``2 rooms``; ``? rooms`` for a number that is not known."""
    if number is None:
        return f"? {plural or noun + 's'}"
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def joined(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
