"""The composition root's part for diagnosis and recovery."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from voiceops.wiring.project import call_target, place_call

CALL_TIMEOUT_S = 15.0
"""Joins take up to 17 s on a full machine; a healthy one answers in one."""

if TYPE_CHECKING:
    from voiceops.calls.ports import Why
    from voiceops.deadline import Deadline
    from voiceops.doctor.local_hands import LocalHands
    from voiceops.model.calls import CallResult
    from voiceops.model.documents.common import DiagnosisEntry
    from voiceops.model.settings import Host
    from voiceops.wiring.project import Project


@contextlib.contextmanager
def hands_on(
    project: Project,
    host: Host,
    *,
    say: Callable[[str], None],
    drop_calls: bool = False,
    limit: Deadline | None = None,
) -> Iterator[LocalHands]:
    """Everything that ``why`` and ``recover`` look at and act with on one host, until the block ends.

    ``limit`` bounds what is done; without it each thing has its own deadline only.
    """
    from voiceops.doctor.local_hands import LocalHands, LocalRooms, LocalStack
    from voiceops.doctor.local_sources import LocalSources
    from voiceops.stack.local.folder import Folder

    def progress(service: str, state: str, words: str) -> None:
        say(f"{service}: {state} {words}".rstrip())

    if not host.local:
        with _hands_on_server(project, host, progress, say, drop_calls=drop_calls, limit=limit) as hands:
            yield hands
        return
    stack = project.stack(host, say=say, progress=progress)
    sources = LocalSources(
        settings=host.settings,
        folder=Folder(project.root),
        observe=lambda: stack.backend.observe(stack.outline),
        declared=stack.services,
    )
    yield LocalHands(
        settings=host.settings,
        sources=sources,
        stack=LocalStack(stack=stack, drop_calls=drop_calls, limit=limit),
        rooms=LocalRooms(settings=host.settings, limit=limit),
        call=lambda: place_call(call_target([host]), timeout_s=_call_timeout_s(limit)),
    )


@contextlib.contextmanager
def _hands_on_server(
    project: Project,
    host: Host,
    progress: Callable[[str, str, str], None],
    say: Callable[[str], None],
    *,
    drop_calls: bool,
    limit: Deadline | None,
) -> Iterator[LocalHands]:
    from voiceops.adapters.ssh.transports import transport_to
    from voiceops.doctor.host_sources import HostSources
    from voiceops.doctor.local_hands import LocalHands, LocalRooms, LocalStack
    from voiceops.wiring.deploy import server_stack
    from voiceops.wiring.endpoint import known_as, near

    with contextlib.closing(transport_to(host)) as transport:
        asked = near(host, transport)
        stack = server_stack(project, host, progress=progress, say=say, transport=transport)
        sources = HostSources(
            settings=host.settings,
            near_url=asked.settings.livekit.url,
            transport=transport,
            outline=stack.outline,
        )
        yield LocalHands(
            settings=asked.settings,
            sources=sources,
            stack=LocalStack(stack=stack, drop_calls=drop_calls, limit=limit),
            rooms=LocalRooms(settings=asked.settings, known_as=known_as(host), limit=limit),
            call=lambda: call_on(host, timeout_s=_call_timeout_s(limit)),
            host=host.name,
            before_look=sources.look,
        )


def _call_timeout_s(limit: Deadline | None) -> float:
    return CALL_TIMEOUT_S if limit is None else min(CALL_TIMEOUT_S, limit.remaining_s)


def call_to(hosts: Sequence[Host], *, why: Why | None = None) -> CallResult:
    """One real call to the agent that these hosts share, or to each whose LiveKit nobody else reaches."""
    from voiceops.wiring.endpoint import reachable

    if all(reachable(host) for host in hosts):
        return place_call(call_target(hosts), why=why)
    for host in hosts:
        heard = call_on(host, why=why)
        if not heard.ok:
            break
    return heard


def call_on(host: Host, *, timeout_s: float = CALL_TIMEOUT_S, why: Why | None = None) -> CallResult:
    """One real call to the host's agent, placed where its LiveKit can be reached: here, or on the host."""
    from voiceops.wiring.endpoint import reachable

    if reachable(host):
        return place_call(call_target([host]), timeout_s=timeout_s, why=why)
    from voiceops.adapters.ssh.transports import transport_to
    from voiceops.deploy.desired import host_outline
    from voiceops.errors import UsageError
    from voiceops.wiring.deploy import call_from_host

    agents = [service.name for service in host_outline(host.settings) if service.is_agent]
    if not agents:
        raise UsageError(f"{host.name} runs no agent to call")
    with contextlib.closing(transport_to(host)) as transport:
        return call_from_host(host, transport, agents[0], timeout_s)


def why_of(project: Project) -> Why | None:
    """Asks the rules about the room of a failed call; None where there is no one host to look at."""
    if len(project.hosts) != 1:
        return None

    def diagnosed(room: str) -> DiagnosisEntry:
        with hands_on(project, project.hosts[0], say=lambda _line: None) as hands:
            facts = hands.facts(room)
            findings = hands.findings(facts)
        return {
            "ok": not any(finding.severity == "error" for finding in findings),
            "findings": [finding.as_json() for finding in findings],
            "problems": list(facts.problems),
        }

    async def why(room: str) -> DiagnosisEntry:
        import asyncio

        return await asyncio.to_thread(diagnosed, room)

    return why
