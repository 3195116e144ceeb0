"""What a supervisor of processes has to offer, so that one reconcile can use any.

Two exist: plain processes (``stack.processes``) and systemd units on a host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Protocol

from voiceops.deadline import Deadline
from voiceops.kinds.model import Declared
from voiceops.stack.model import Instance, Observed, Stray


class StopForce(str, Enum):
    """How a service is ended."""

    DRAIN = "drain"
    """Signal once, then wait as long as the deadline allows; never kill."""
    BEGIN = "begin"
    """Signal once, and see it begin to drain, or end, before the deadline; it then goes on alone."""
    HAND_OVER = "hand-over"
    """Of a livekit-server: signal once, and wait until its participants have left, while others take the new rooms."""
    STOP = "stop"
    """Signal once, wait for the stop timeout, then kill what is left."""
    KILL = "kill"
    """Kill at once."""


class Backend(Protocol):
    """Every method can be called again at any time, also after a caller that was killed half way."""

    def observe(self, services: Sequence[Declared]) -> Mapping[str, Observed]:
        """What there is now, strays and services that are no longer declared included. Changes nothing."""

    def start(self, service: Declared) -> Instance:
        """Start one more run of the service and return at once; what already runs stays untouched."""

    def wait_ready(
        self, service: Declared, instance: Instance, limit: Deadline, *, not_worker_id: str = ""
    ) -> Instance:
        """Wait until this run can do its job; ``ServiceError`` with the log's end when it can't.

        With ``not_worker_id`` an agent counts only once it has registered under another id.
        """

    def end(self, instance: Instance, limit: Deadline, force: StopForce) -> bool:
        """End this run and all that it left behind; False when it still drains at the deadline.

        Signals at most once in the life of a run, whoever calls and how often. Only one whose kind says so
        (``repeat_signal_s``) gets a second one when it is still there.
        """

    def end_stray(self, stray: Stray, limit: Deadline) -> None:
        """Ask a foreign process to end, once; then kill it and its children. Never its session's others.

        A pid that names another process by now (``stray.start``) is left alone.
        """
