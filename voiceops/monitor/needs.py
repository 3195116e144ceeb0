"""What the services of a stack need of each other, as the monitor weighs it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from voiceops.kinds.model import Declared
from voiceops.model.settings import ServiceBase
from voiceops.model.states import ServiceState


def all_needs(needs: Mapping[str, tuple[str, ...]], name: str) -> frozenset[str]:
    """Return everything that a service needs here, directly or through others. ``needs``: of each service."""
    found: set[str] = set()
    waiting = list(needs.get(name, ()))
    while waiting:
        need = waiting.pop()
        if need in needs and need not in found:
            found.add(need)
            waiting += needs[need]
    return frozenset(found)


def awaited_needs(service: Declared) -> tuple[str, ...]:
    """Return what it needs in more than its process: it can't be ready before those are."""
    return tuple(need for need in service.needs if service.conditions.get(need) != "started")


def failed_for_good(
    settings: Mapping[str, ServiceBase], states: Mapping[str, ServiceState]
) -> frozenset[str]:
    """Return the one-shots that have failed and are not to be run again: a start of what needs them would run them."""
    return frozenset(
        name
        for name, state in states.items()
        if state is ServiceState.FAILED
        and settings[name].oneshot
        and settings[name].restart_policy == "never"
    )
