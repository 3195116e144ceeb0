"""What the monitor's loop asks of a stack: that of this machine, or the units of the host that it runs on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from voiceops.adapters.process.table_entry import ProcessKey
from voiceops.model.monitor_events import ProbeCall
from voiceops.monitor.decide import ServiceRepair
from voiceops.monitor.diagnosing import Diagnosing
from voiceops.monitor.local_stack import StackObservation
from voiceops.monitor.rooms import RoomKeeper
from voiceops.rooms.watcher import LostWorkers


class MonitoredServices(Protocol):
    """Services that are watched and repaired."""

    def held_by(self) -> str:
        """Return who else holds the lock; empty where nobody does."""

    def version(self) -> int:
        """Return a number that is another one once somebody has started or stopped a service."""

    def observe(self) -> StackObservation:
        """Look at all services. Takes up to seconds where one does not answer."""

    def note_exit(self, key: ProcessKey) -> None:
        """Hear that a process has ended."""

    def repair(self, repairs: Sequence[ServiceRepair]) -> None:
        """Bring these services back and wait until they are ready.

        ``LockedError`` if somebody else is at it; ``CallsInProgressError`` where that would end calls.
        """

    def server_may_answer(self) -> bool:
        """Return whether the livekit-server of the stack is ready, as of the last look; True where it has none."""

    def crowded(self) -> str:
        """Return why one more call might take a place that a caller needs, as of the last look; empty: it would not."""

    def lost_workers(self, until: float, unassigned_until: float = 0.0) -> LostWorkers | None:
        """Return which workers are gone and which rooms have an agent that lives; None: nobody can say."""

    def registered_at(self) -> float | None:
        """Return since when every wanted agent has been registered; None: not all are."""


@dataclass(slots=True)
class Watched:
    """What one monitor watches with: replaced as a whole when the configuration changes."""

    host: str
    stack: MonitoredServices
    rooms: RoomKeeper | None
    """None: no agents and no LiveKit of its own."""
    all_workers_here: bool
    """No other machine has workers for this LiveKit."""
    interval_s: float
    probe: Callable[[], Awaitable[ProbeCall]] | None = None
    """Places a synthetic call; None: none is wanted."""
    probe_every_s: float = 0.0
    diagnosing: Diagnosing | None = None
    """Applies the rules of `why`; None: there is no LiveKit to be asked."""
