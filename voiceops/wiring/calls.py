"""The composition root's part for the calls that prove a deploy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from voiceops.errors import ConfigError
from voiceops.wiring.endpoint import known_as, reachable

if TYPE_CHECKING:
    from voiceops.deploy.fleet import HostRun
    from voiceops.model.calls import CallResult
    from voiceops.model.settings import Host
    from voiceops.wiring.project import Project


class ProofCalls:
    """Places the calls of a deploy, one after the other at each LiveKit: hosts are deployed side by side."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._guard = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}

    def place(self, run: HostRun, service: str) -> CallResult:
        """One real call to an agent of the host, from here or from the host itself."""
        import logging

        from voiceops.wiring.project import call_target, place_call

        host = run.host
        with self._guard:
            turn = self._turns.setdefault(known_as(host), threading.Lock())
        with turn:
            self._say(f"calling {service}{'' if reachable(host) else f' from {run.name}'}")
            logging.getLogger("livekit").setLevel(logging.CRITICAL)
            if not reachable(host):
                from voiceops.wiring.deploy import call_from_host

                return call_from_host(host, run.transport, service)
            return place_call(call_target([host], service=service))


def shares_livekit(project: Project, host: Host) -> bool:
    """Whether another host of the inventory runs agents for the same LiveKit, or for a node of its cluster."""
    from voiceops.model.roles import Role

    def livekits(one: Host) -> set[str]:
        clusters = (each.cluster for each in one.settings.services.values())
        return {known_as(one), *filter(None, clusters)}

    try:
        everywhere = project.configuration.select(group="all")
    except ConfigError:
        return True  # a mistake in what is said of another host does not matter here
    return any(
        livekits(one) & livekits(host)
        for one in everywhere
        if one.name != host.name and one.settings.runs(Role.AGENT)
    )


def call_through_servers(
    project: Project, hosts: Sequence[HostRun], say: Callable[[str], None]
) -> CallResult | None:
    """Where only servers changed, a call through one of them to an agent of another selected host."""
    from voiceops.model.roles import Role
    from voiceops.wiring.project import call_target, place_call

    agents = [
        name
        for host in project.hosts
        for name, service in sorted(host.settings.running.items())
        if service.role is Role.AGENT
    ]
    servers = [run.host for run in hosts if run.host.settings.runs(Role.SERVER) and reachable(run.host)]
    if not agents or not servers or agents[0] not in servers[-1].settings.services:
        return None
    # The last one: the others have had time to be found by the agents again.
    say(f"calling {agents[0]} through {servers[-1].name}")
    return place_call(call_target([servers[-1]], service=agents[0]))
