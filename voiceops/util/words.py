"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int | None, noun: str, plural: str = "") -> str:
    """``1 room``, ``2 rooms``; ``? rooms`` for a number that is not known."""
    if number is None:
        return f"? {plural or noun + 's'}"
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
