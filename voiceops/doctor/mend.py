"""Carry out what findings propose: each distinct step once, the stack's before the rooms'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from voiceops.errors import NotFoundError, VoiceopsError
from voiceops.model.findings import Finding, Mend

ROOMS_AT_ONCE = 8


class StackHands(Protocol):
    """What mending does to services; both wait until the service is ready."""

    def start(self, only: Sequence[str], *, replace: bool) -> None: ...

    def restart(self, only: Sequence[str], *, now: bool) -> None: ...


class RoomHands(Protocol):
    """What mending does to rooms; a dispatch waits until the agent is ready."""

    def dispatch(self, room: str, agent_name: str) -> None: ...

    def remove(self, room: str, identity: str) -> None: ...

    def delete(self, room: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MendResult:
    """One step and how it went; ``done`` is False also for what only a person can do."""

    mend: Mend
    done: bool
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"command": self.mend.command, "done": self.done} | (
            {"error": self.error} if self.error else {}
        )


def steps(findings: Iterable[Finding]) -> tuple[Mend, ...]:
    """The distinct steps of all findings in their order: services first, then rooms.

    A dispatch before its worker is back would be lost like the one before it.
    """
    distinct = list(dict.fromkeys(mend for finding in findings for mend in finding.mends))
    services = [mend for mend in distinct if mend.action in ("start", "restart", "replace")]
    return (*services, *(mend for mend in distinct if mend not in services))


def on_host(finding: Finding, host: str) -> Finding:
    """The same, with commands that name the host: without it they would act on this machine."""

    def named(mend: Mend) -> Mend:
        parts = [mend.command] if mend.room else mend.command.split(" && ")
        asked = [
            f"{part} --host {host}" if part.startswith("inv ") and "--host" not in part else part
            for part in parts
        ]
        return replace(mend, command=" && ".join(asked))

    return replace(finding, mends=tuple(map(named, finding.mends)))


def carry_out(mends: Sequence[Mend], stack: StackHands, rooms: RoomHands) -> tuple[MendResult, ...]:
    """Do each step; one that fails does not stop the others. Rooms are mended side by side."""
    results: dict[Mend, MendResult] = {}

    def one_after_the_other(chain: Sequence[Mend]) -> None:
        for mend in chain:
            results[mend] = _try(mend, stack, rooms)

    chains: dict[str, list[Mend]] = {}
    for mend in mends:
        chains.setdefault(mend.room, []).append(mend)
    one_after_the_other(chains.pop("", []))
    if chains:
        with ThreadPoolExecutor(max_workers=ROOMS_AT_ONCE) as pool:
            list(pool.map(one_after_the_other, chains.values()))
    return tuple(results[mend] for mend in mends)


def _try(mend: Mend, stack: StackHands, rooms: RoomHands) -> MendResult:
    try:
        done = _carry_out(mend, stack, rooms)
    except NotFoundError:
        return MendResult(mend=mend, done=True)  # it went by itself meanwhile
    except VoiceopsError as failure:
        return MendResult(mend=mend, done=False, error=failure.message)
    return MendResult(mend=mend, done=done, error="" if done else "only you can do this")


def _carry_out(mend: Mend, stack: StackHands, rooms: RoomHands) -> bool:
    only = [mend.service] if mend.service else []
    if mend.action == "start":
        stack.start(only, replace=False)
    elif mend.action == "replace":
        stack.start(only, replace=True)
    elif mend.action == "restart":
        stack.restart(only, now=mend.now)
    elif mend.action == "dispatch":
        rooms.dispatch(mend.room, mend.agent_name)
    elif mend.action == "remove":
        rooms.remove(mend.room, mend.identity)
    elif mend.action == "delete-room":
        rooms.delete(mend.room)
    else:
        return False
    return True
