"""The timers of a server alone: what `inv schedule` changes there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from voiceops.adapters.ssh.transports import transport_to
from voiceops.deploy.desired import unscheduled
from voiceops.deploy.facts_cache import FactsCache
from voiceops.deploy.host_states import HostStates
from voiceops.model.settings import Host
from voiceops.resources import Resource


def timers(facts: FactsCache, states: HostStates, *, remove: bool) -> Callable[[Host], Sequence[Resource]]:
    """The resources of a server's timers, as its deploy has them; with ``remove`` those of a server without."""

    def of(host: Host) -> Sequence[Resource]:
        if remove:
            return unscheduled(host.settings)
        known = facts.read(host)
        if known is None:
            with closing(transport_to(host)) as transport:
                known = facts.learn(host, transport)
        return states.of(host, known).scheduled()

    return of
