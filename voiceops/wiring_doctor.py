"""The composition root's part for diagnosis and recovery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voiceops.errors import UsageError
from voiceops.wiring import call_target, place_call

if TYPE_CHECKING:
    from voiceops.doctor.local_hands import LocalHands
    from voiceops.wiring import Project


def local_hands(
    project: Project,
    *,
    say: Callable[[str], None],
    drop_calls: bool = False,
    call_timeout_s: float = 15.0,
) -> LocalHands:
    """Everything that ``why`` and ``recover`` look at and act with, for the one selected host."""
    from voiceops.doctor.local_hands import LocalHands, LocalRooms, LocalStack
    from voiceops.doctor.local_sources import LocalSources
    from voiceops.stack.folder import Folder

    if len(project.hosts) != 1:
        raise UsageError("choose one host", hint="--host NAME")
    host = project.hosts[0]
    stack = project.stack(
        host, say=say, progress=lambda service, state, words: say(f"{service}: {state} {words}")
    )
    sources = LocalSources(
        settings=host.settings,
        folder=Folder(project.root),
        observe=lambda: stack.backend.observe(stack.outline),
        declared=stack.services,
    )
    return LocalHands(
        settings=host.settings,
        sources=sources,
        stack=LocalStack(stack=stack, drop_calls=drop_calls),
        rooms=LocalRooms(settings=host.settings),
        call=lambda: place_call(call_target([host]), timeout_s=call_timeout_s),
    )
