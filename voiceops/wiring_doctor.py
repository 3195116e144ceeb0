"""The composition root's part for diagnosis and recovery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from voiceops.errors import UsageError
from voiceops.wiring import call_target, place_call

if TYPE_CHECKING:
    from voiceops.calls.ports import Why
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


def why_of(project: Project) -> Why | None:
    """Asks the rules about the room of a failed call; None where there is no one host to look at."""
    if len(project.hosts) != 1 or not project.hosts[0].local:
        return None

    async def why(room: str) -> dict[str, Any]:
        import asyncio

        from voiceops.doctor.diagnose import diagnose

        hands = local_hands(project, say=lambda _line: None)
        facts = await asyncio.to_thread(hands.facts, room)
        findings = diagnose(facts)
        return {
            "ok": not any(finding.severity == "error" for finding in findings),
            "findings": [finding.as_json() for finding in findings],
            "problems": list(facts.problems),
        }

    return why
