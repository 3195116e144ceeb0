"""A livekit-server as it was observed."""

from __future__ import annotations

from dataclasses import dataclass

from voiceops.model.states import ServiceState


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFact:
    """The livekit-server as this machine reaches it, and its service where the stack runs it."""

    url: str
    reachable: bool
    status: int | None = None
    """Of ``GET /``: 200, or 406 when its statistics are over 4 s old; still 200 while it drains."""
    error: str = ""
    credentials: str = "unknown"
    """``ok``, ``refused`` or ``unknown``."""
    credentials_detail: str = ""
    """Never holds the token, which the server's own answer repeats."""
    secret_bytes: int = 64
    clock_skew_s: float = 0.0
    """Server's clock minus ours, in whole seconds; tokens have one minute of leeway."""
    used: bool = True
    """False: no service and no key of this stack has to do with LiveKit, so that nobody was asked."""
    declared: bool = False
    """The stack itself runs it."""
    service: str = "livekit"
    state: ServiceState | None = None
    detail: str = ""
    stopped: bool = False
    """The kernel says that its process is stopped: no packet passes, every call is silent."""
    foreign_owner: str = ""
    """Whose the process on its port is, where that is none of this project's."""
    started_at: float | None = None
    """None: this stack does not run it, or it does not run."""
