"""The states of services. This module imports nothing of voiceops."""

from __future__ import annotations

from enum import Enum


class ServiceState(str, Enum):
    """What ``check-running`` and ``status`` say of a service."""

    READY = "ready"
    STARTING = "starting"
    DRAINING = "draining"
    MISSING = "missing"
    DUPLICATE = "duplicate"
    STRAY = "stray"
    STALE = "stale"
    """A state file names a process that is gone."""
    UNRESPONSIVE = "unresponsive"
    FAILED = "failed"
    STOPPED = "stopped"
    COMPLETED = "completed"
    """A one-shot that has ended with 0."""

    @property
    def ok(self) -> bool:
        """Whether the service does what is wanted of it, or has done it."""
        return self in (ServiceState.READY, ServiceState.COMPLETED)

    def __str__(self) -> str:
        return self.value
