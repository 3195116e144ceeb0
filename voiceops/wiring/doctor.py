"""Build what `why` and `recover` observe and act with on one host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from voiceops.adapters.ssh.forward import reachable_endpoint
from voiceops.adapters.ssh.transports import transport_to
from voiceops.deadline import Deadline
from voiceops.doctor.host_sources import HostSources
from voiceops.doctor.local_recovery import LocalRecoveryActions, LocalRooms, LocalStack
from voiceops.doctor.local_sources import LocalSources
from voiceops.model import timeouts
from voiceops.model.calls import CallResult
from voiceops.model.endpoint import server_id
from voiceops.model.settings import Host
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.results import Progress
from voiceops.wiring.agent_calls import agent_calls
from voiceops.wiring.project import Project
from voiceops.wiring.server import server_stack
from voiceops.wiring.stack import build_stack


@contextlib.contextmanager
def recovery_actions(
    project: Project,
    host: Host,
    *,
    say: Callable[[str], None],
    drop_calls: bool = False,
    limit: Deadline | None = None,
) -> Iterator[LocalRecoveryActions]:
    """Everything that ``why`` and ``recover`` observe and act with on one host, until the block ends.

    ``limit`` bounds what is done; without it each thing has its own deadline only.
    """

    def progress(service: str, state: str, words: str) -> None:
        say(f"{service}: {state} {words}".rstrip())

    if not host.local:
        with _server_recovery_actions(
            project, host, progress, say, drop_calls=drop_calls, limit=limit
        ) as actions:
            yield actions
        return
    stack = build_stack(project, host, say=say, progress=progress)
    sources = LocalSources(
        settings=host.settings,
        folder=ProjectFolder(project.root),
        observe=lambda: stack.backend.observe(stack.outline),
        declared=stack.services,
    )
    yield LocalRecoveryActions(
        settings=host.settings,
        sources=sources,
        stack=LocalStack(stack=stack, drop_calls=drop_calls, limit=limit),
        rooms=LocalRooms(settings=host.settings, limit=limit),
        call=lambda: _call(host, limit),
        prepare=lambda _since: _ensure_keys(project, say),
    )


@contextlib.contextmanager
def _server_recovery_actions(
    project: Project,
    host: Host,
    progress: Progress,
    say: Callable[[str], None],
    *,
    drop_calls: bool,
    limit: Deadline | None,
) -> Iterator[LocalRecoveryActions]:
    with contextlib.closing(transport_to(host)) as transport:
        asked = reachable_endpoint(host, transport)
        stack = server_stack(project, host, progress=progress, say=say, transport=transport)
        sources = HostSources(
            settings=host.settings,
            endpoint_url=asked.settings.livekit.url,
            transport=transport,
            outline=stack.outline,
            address=host.address,
        )
        yield LocalRecoveryActions(
            settings=asked.settings,
            sources=sources,
            stack=LocalStack(stack=stack, drop_calls=drop_calls, limit=limit),
            rooms=LocalRooms(settings=asked.settings, server_id=server_id(host), limit=limit),
            call=lambda: _call(host, limit),
            host=host.name,
            prepare=sources.read,
        )


def _ensure_keys(project: Project, say: Callable[[str], None]) -> None:
    """Make keys that are missing before anything is asked with them, and say so."""
    project.ensure_local_keys(say)


def _call(host: Host, limit: Deadline | None) -> CallResult:
    timeout_s = timeouts.CALL_S if limit is None else min(timeouts.CALL_S, limit.remaining_s)
    return agent_calls().on(host, timeout_s=timeout_s)
