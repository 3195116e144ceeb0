"""What one look from outside tells of a livekit-server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCheck:
    """``GET /`` and a credential check."""

    url: str
    reachable: bool
    status: int | None = None
    """200, or 406 when its statistics are over 4 s old; still 200 while it drains."""
    error: str = ""
    credentials: str = "unknown"
    """``ok``, ``refused`` or ``unknown``."""
    credentials_detail: str = ""
    """Never holds the token, which the server's own answer repeats."""
    clock_skew_s: float = 0.0
    """Server's clock minus ours, from its Date header: whole seconds."""
