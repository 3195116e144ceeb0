"""LiveKit's names for the workers of a machine, those of dead ones too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from voiceops.model.roles import Role
from voiceops.rooms.watcher import LostWorkers
from voiceops.stack.model import Instance, Observed

_MOST_DEAD = 100


class WorkerNames:
    """Remembers under which names each run of an agent has registered."""

    def __init__(self, run_of: Callable[[Instance], str]) -> None:
        """``run_of``: names one run of an instance."""
        self._run_of = run_of
        self._names: dict[str, set[str]] = {}
        self._dead: tuple[str, ...] = ()

    def note(self, observed: Mapping[str, Observed]) -> None:
        """Take in what one look found."""
        for one in instances(observed):
            if one.worker_id:
                self._names.setdefault(self._run_of(one), set()).add(one.worker_id)

    def lost(
        self, observed: Mapping[str, Observed], until: float, unassigned_until: float
    ) -> LostWorkers | None:
        """Return which workers are gone and which rooms have an agent that lives, as of this look.

        None where an agent runs that does not say which rooms it has: its callers must not get another one.
        """
        agents = [one for one in instances(observed) if one.role is Role.AGENT]
        if any(one.calls is None for one in agents):
            return None
        alive = {self._run_of(one) for one in agents}
        gone = [names for run, names in self._names.items() if run not in alive]
        self._names = {run: names for run, names in self._names.items() if run in alive}
        self._dead = (*self._dead, *(name for names in gone for name in names))[-_MOST_DEAD:]
        return LostWorkers(
            until=until,
            workers=frozenset(self._dead),
            claimed=frozenset(room for one in agents for room in one.rooms),
            unassigned_until=unassigned_until,
        )


def instances(observed: Mapping[str, Observed]) -> Iterable[Instance]:
    """Return every instance of every service."""
    return (one for seen in observed.values() for one in seen.instances)


def running_agents(observed: Mapping[str, Observed]) -> Sequence[Instance]:
    """Return every live agent, those that drain too."""
    return tuple(one for one in instances(observed) if one.role is Role.AGENT and one.pid)
