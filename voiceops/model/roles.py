"""What a service has to do with calls. This module imports nothing of voiceops."""

from __future__ import annotations

from enum import Enum


class Role(str, Enum):
    """The part that a kind of service plays in a call: who ends it must know whom it cuts off."""

    SERVER = "server"
    """Rooms live in it: its end takes every call with it."""
    AGENT = "agent"
    """Answers callers: it tells its calls on a health socket, and drains before it ends."""
    OTHER = "other"
    """No call depends on it alone."""

    def __str__(self) -> str:
        return self.value
