"""Carry out what findings propose: each distinct step once, the stack's before the rooms'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from voiceops.errors import CallsInProgressError, NotFoundError, VoiceopsError
from voiceops.model.findings import Finding, Fix, for_host, steps_for_host
from voiceops.model.protocol import CALL_ROOM_PREFIX

if TYPE_CHECKING:
    from voiceops.model.documents.doctor import FixEntry

ROOMS_AT_ONCE = 8
_QUOTED = re.compile(r"`(inv [^`]+)`")
_QUOTED_START = re.compile(r"`inv start[^`]*`")


class StackActions(Protocol):
    """What fixing does to services; both wait until the service is ready."""

    def start(self, only: Sequence[str], *, replace: bool) -> None: ...

    def restart(self, only: Sequence[str], *, now: bool) -> None: ...


class RoomActions(Protocol):
    """What fixing does to rooms; a dispatch waits until the agent is ready."""

    def dispatch(self, room: str, agent_name: str) -> None: ...

    def remove(self, room: str, identity: str) -> None: ...

    def delete(self, room: str, sid: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FixResult:
    """One step and how it went; ``done`` is False also for what only a person can do."""

    fix: Fix
    done: bool
    error: str = ""

    def as_json(self) -> FixEntry:
        """Return the step as documents have it."""
        return {"command": self.fix.command, "done": self.done, "detail": self.error}


def steps(findings: Iterable[Finding]) -> tuple[Fix, ...]:
    """The distinct steps of all findings in their order: services first, then rooms.

    A dispatch before its worker is back would be lost like the one before it.
    """
    distinct = list(dict.fromkeys(fix for finding in findings for fix in finding.fixes))
    services = [fix for fix in distinct if fix.action in ("start", "restart", "replace")]
    return (*services, *(fix for fix in distinct if fix not in services))


def on_host(finding: Finding, host: str) -> Finding:
    """The same, with commands that name the host: without it they would act on this machine.

    What a person has to change first, code or inventory, gets to a server by a deploy.
    """

    def on_server(fix: Fix) -> Fix:
        if _QUOTED.search(fix.command):
            deployed = _QUOTED_START.sub("`inv deploy`", fix.command)
            return replace(fix, command=_QUOTED.sub(lambda found: f"`{for_host(found[1], host)}`", deployed))
        named = for_host if fix.room else steps_for_host  # the name of a room may have the sign in it
        return replace(fix, command=named(fix.command, host))

    return replace(finding, fixes=tuple(map(on_server, finding.fixes)))


def for_test_call(finding: Finding, room: str) -> Finding:
    """The same for the caller of ``inv call``, whose room goes with it: there is nothing to do in it but to call again."""
    if not room.startswith(CALL_ROOM_PREFIX) or not any(fix.room == room for fix in finding.fixes):
        return finding
    kept = tuple(fix for fix in finding.fixes if fix.room != room)
    return replace(finding, fixes=kept or (Fix(command="inv call", action=""),))


def carry_out(fixes: Sequence[Fix], stack: StackActions, rooms: RoomActions) -> tuple[FixResult, ...]:
    """Do each step; one that fails does not stop the others. Rooms are fixed side by side."""
    results: dict[Fix, FixResult] = {}

    def one_after_the_other(chain: Sequence[Fix]) -> None:
        for fix in chain:
            results[fix] = _try(fix, stack, rooms)

    chains: dict[str, list[Fix]] = {}
    for fix in fixes:
        chains.setdefault(fix.room, []).append(fix)
    one_after_the_other(chains.pop("", []))
    if chains:
        with ThreadPoolExecutor(max_workers=ROOMS_AT_ONCE) as pool:
            list(pool.map(one_after_the_other, chains.values()))
    return tuple(results[fix] for fix in fixes)


def _try(fix: Fix, stack: StackActions, rooms: RoomActions) -> FixResult:
    try:
        done = _carry_out(fix, stack, rooms)
    except NotFoundError:
        return FixResult(fix=fix, done=True)  # it went by itself meanwhile
    except CallsInProgressError as refused:
        return FixResult(fix=fix, done=False, error=f"{refused.message}; give --yes to do it all the same")
    except VoiceopsError as failure:
        return FixResult(fix=fix, done=False, error=failure.message)
    return FixResult(fix=fix, done=done, error="" if done else "only you can do this")


def _carry_out(fix: Fix, stack: StackActions, rooms: RoomActions) -> bool:
    only = [fix.service] if fix.service else []
    if fix.action == "start":
        stack.start(only, replace=False)
    elif fix.action == "replace":
        stack.start(only, replace=True)
    elif fix.action == "restart":
        stack.restart(only, now=fix.now)
    elif fix.action == "dispatch":
        rooms.dispatch(fix.room, fix.agent_name)
    elif fix.action == "remove":
        rooms.remove(fix.room, fix.identity)
    elif fix.action == "delete-room":
        rooms.delete(fix.room, fix.room_sid)
    else:
        return False
    return True
