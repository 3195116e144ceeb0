"""Calls that prove an agent: placed where its LiveKit can be reached, from here or by the host itself."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from voiceops.adapters.ssh.transports import transport_to
from voiceops.deploy.desired import host_outline
from voiceops.deploy.fleet import HostRun
from voiceops.deploy.host_calls import call_from_host
from voiceops.errors import ConfigError, UsageError
from voiceops.fleet.call_target import call_target
from voiceops.kinds.model import Declared
from voiceops.model import timeouts
from voiceops.model.calls import CallResult, CallTarget
from voiceops.model.endpoint import reachable, server_id
from voiceops.model.roles import Role
from voiceops.model.settings import Host
from voiceops.ports import Transport

if TYPE_CHECKING:
    from voiceops.model.documents.common import DiagnosisEntry


Why = Callable[[str], Awaitable["DiagnosisEntry | None"]]
"""Asks the ``why`` rules about a room; None when they find nothing."""


class PlaceCall(Protocol):
    """Places one call from this machine."""

    def __call__(
        self, target: CallTarget, *, timeout_s: float = timeouts.CALL_S, why: Why | None = None
    ) -> CallResult: ...


class PreparedCaller(Protocol):
    """Places calls from this machine, by a caller that is ready already."""

    def place(
        self,
        target: CallTarget,
        *,
        timeout_s: float,
        why: Why | None = None,
        ended: Callable[[], bool] = lambda: False,
    ) -> CallResult:
        """One call; it fails at once where ``ended`` says that whom it waits for is gone."""

    def close(self) -> None:
        """Clear up after the calls."""


class AgentCalls:
    """Places one call after the other, from here or from the host."""

    def __init__(self, place: PlaceCall, prepared: Callable[[], PreparedCaller]) -> None:
        self._place = place
        self._make_prepared = prepared
        self._prepared: PreparedCaller | None = None

    def prepare(self) -> None:
        """Have a caller get ready for the calls to come; ``close`` ends it."""
        if self._prepared is None:
            self._prepared = self._make_prepared()

    def close(self) -> None:
        """Clear up after the calls of a prepared caller. Safe to call again."""
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None

    def to(self, hosts: Sequence[Host], *, why: Why | None = None) -> CallResult:
        """One real call to the agent that these hosts share, or to each whose LiveKit nobody else reaches."""
        if all(reachable(host) for host in hosts):
            return self._place(call_target(hosts), why=why)
        for host in hosts:
            heard = self.on(host, why=why)
            if not heard.ok:
                break
        return heard

    def on(self, host: Host, *, timeout_s: float = timeouts.CALL_S, why: Why | None = None) -> CallResult:
        """One real call to the host's agent, placed where its LiveKit can be reached: here, or on the host."""
        if reachable(host):
            return self._place(call_target([host]), timeout_s=timeout_s, why=why)
        agents = [service.name for service in host_outline(host.settings) if service.is_agent]
        if not agents:
            raise UsageError(f"{host.name} runs no agent to call")
        with contextlib.closing(transport_to(host)) as transport:
            return call_from_host(host, transport, agents[0], timeout_s)

    def to_service(
        self,
        host: Host,
        transport: Transport,
        service: str,
        *,
        proof_name: str = "",
        release: str = "",
        ended: Callable[[], bool] = lambda: False,
    ) -> CallResult:
        """One real call to one agent of the host, whose connection is open; the one of this name, if it has one.

        ``ended``: a prepared caller hangs up once that says so.
        """
        if not reachable(host):
            return call_from_host(host, transport, service, proof_name=proof_name, release=release)
        target = call_target([host], service=service)
        target = msgspec.structs.replace(target, agent_name=proof_name or target.agent_name)
        if self._prepared is not None:
            return self._prepared.place(target, timeout_s=timeouts.CALL_S, ended=ended)
        return self._place(target)


class ProofCalls:
    """Places the calls of a deploy, one after the other at each LiveKit: hosts are deployed side by side."""

    def __init__(
        self,
        calls: AgentCalls,
        *,
        selected: Sequence[Host],
        everywhere: Callable[[], Sequence[Host]],
        say: Callable[[str], None],
    ) -> None:
        """``everywhere``: all hosts of the inventory, whose settings are read by this call."""
        self._calls = calls
        self._selected = selected
        self._everywhere = everywhere
        self._say = say
        self._guard = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}

    def prepare(self, run: HostRun) -> None:
        """Have a caller get ready where calls to this host are placed from here; ``close`` ends it."""
        if reachable(run.host):
            with self._guard:
                self._calls.prepare()

    def close(self) -> None:
        """Clear up after the calls of a prepared caller. Safe to call again."""
        self._calls.close()

    def place(
        self,
        run: HostRun,
        service: Declared,
        proof_name: str,
        ended: Callable[[], bool] = lambda: False,
    ) -> CallResult:
        """One real call to an agent of the host, from here or from the host itself; see ``AgentCalls.to_service``."""
        with self._guard:
            turn = self._turns.setdefault(server_id(run.host), threading.Lock())
        with turn:
            self._say(f"calling {service.name}{'' if reachable(run.host) else f' from {run.name}'}")
            logging.getLogger("livekit").setLevel(logging.CRITICAL)
            return self._calls.to_service(
                run.host,
                run.transport,
                service.name,
                proof_name=proof_name,
                release=service.release,
                ended=ended,
            )

    def shared(self, run: HostRun) -> bool:
        """Whether agents of other hosts get calls of the same LiveKit."""
        try:
            return shares_livekit(self._everywhere(), run.host)
        except ConfigError:
            return True  # a mistake in what is said of another host does not matter here

    def through_servers(self, hosts: Sequence[HostRun]) -> CallResult | None:
        """Where only servers changed, a call through one of them to an agent of another selected host."""
        agents = [
            name
            for host in self._selected
            for name, service in sorted(host.settings.running.items())
            if service.role is Role.AGENT
        ]
        servers = [run for run in hosts if run.host.settings.runs(Role.SERVER) and reachable(run.host)]
        if not agents or not servers or agents[0] not in servers[-1].host.settings.services:
            return None
        # The last one: the others have had time to be found by the agents again.
        last = servers[-1]
        self._say(f"calling {agents[0]} through {last.name}")
        return self._calls.to_service(last.host, last.transport, agents[0])


def shares_livekit(everywhere: Sequence[Host], host: Host) -> bool:
    """Whether another of these hosts runs agents for the same LiveKit, or for a node of its cluster."""
    return any(
        _livekits(one) & _livekits(host)
        for one in everywhere
        if one.name != host.name and one.settings.runs(Role.AGENT)
    )


def _livekits(host: Host) -> set[str]:
    clusters = (each.cluster for each in host.settings.services.values())
    return {server_id(host), *filter(None, clusters)}
