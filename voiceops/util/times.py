"""Points in time as text."""

from __future__ import annotations

from datetime import datetime


def iso_time(at: float) -> str:
    """Return seconds since the epoch as ISO 8601 with this machine's offset, to the second."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")


def iso_time_or_none(at: float) -> str | None:
    """As ``iso_time``; None for 0.0, which LiveKit and our records use for a time that is not known."""
    return iso_time(at) if at else None
