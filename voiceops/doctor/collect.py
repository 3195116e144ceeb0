"""Gather the facts that the rules judge, all at once, each source under its own deadline.

A source that fails becomes a line in ``problems``: a diagnosis with a hole says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from voiceops.deadline import deadline
from voiceops.doctor.facts import HostFact, LogEvent, RoomFact, StackFacts, WorkerFact
from voiceops.errors import ConfigError, VoiceopsError
from voiceops.model.rooms import Room
from voiceops.model.server import ServerFact
from voiceops.model.settings import RoomsSettings
from voiceops.ports import AgentRoomApi
from voiceops.rooms.rules import COUNT_LAG_S
from voiceops.util.words import counted

T = TypeVar("T")
LOG_WINDOW_S = 900.0
OBSERVE_TIMEOUT_S = 10.0
"""For the server, the workers, the logs and the machine, each; the rooms get twice as long."""
LONG_LOGS_S = 60.0
"""For logs of a time that somebody has asked for."""
UNCOUNTED_MOST = 200
"""Each costs two requests; so many are answered within half a second."""


class FactSources(Protocol):
    """Where facts come from: the stack of one host and its LiveKit server."""

    async def server(self) -> ServerFact: ...

    async def workers(self) -> Sequence[WorkerFact]: ...

    async def events(self, since: float) -> Sequence[LogEvent]: ...

    async def host(self) -> HostFact: ...

    def now(self) -> float: ...


async def collect(
    sources: FactSources,
    rooms: AgentRoomApi | None,
    settings: RoomsSettings,
    *,
    wanted_room: str = "",
    since: float | None = None,
    chosen: Sequence[Room] | None = None,
    timeout_s: float = OBSERVE_TIMEOUT_S,
) -> StackFacts:
    """Observe everything once. ``rooms`` may be None where the server's API can't be used.

    ``since`` reads the logs from then on, and the failed calls of earlier starts with them. ``chosen``: look into these
    rooms alone, as somebody has listed them; None: list them, and choose.
    """
    problems: list[str] = []
    now = sources.now()
    server, workers, events, host = await asyncio.gather(
        _observe("the server", sources.server(), timeout_s, problems),
        _observe("the workers", sources.workers(), timeout_s, problems),
        _observe(
            "the logs",
            sources.events(now - LOG_WINDOW_S if since is None else since),
            timeout_s if since is None else LONG_LOGS_S,
            problems,
        ),
        _observe("this machine", sources.host(), timeout_s, problems),
    )
    server = server or ServerFact(url="", reachable=False, error="could not be looked at")
    usable = server.reachable and server.credentials == "ok"
    observed_rooms: tuple[RoomFact, ...] = ()
    missing = False
    left_out = 0
    if rooms is not None and usable:  # a server that is away or refuses us has been seen already
        source = (
            observe_rooms(rooms, wanted_room, now=now + server.clock_skew_s)
            if chosen is None
            else _observe_chosen(rooms, chosen)
        )
        seen = await _observe("the rooms", source, timeout_s * 2, problems)
        missing = bool(wanted_room) and seen is not None and not seen[0]
        observed_rooms, left_out = seen or ((), 0)
    incomplete = bool(problems)
    if left_out:
        problems.append(f"{counted(left_out, 'room')} in which LiveKit counts nobody: `inv cleanup-rooms`")
    return StackFacts(
        now=sources.now() + server.clock_skew_s,
        server=server,
        workers=tuple(_with_registration(worker, events or ()) for worker in workers or ()),
        rooms=observed_rooms,
        settings=settings,
        events=tuple(events or ()),
        host=host or HostFact(),
        problems=tuple(problems),
        incomplete=incomplete,
        wanted_room=wanted_room,
        room_is_missing=missing,
        history=since is not None,
    )


def _with_registration(worker: WorkerFact, events: Sequence[LogEvent]) -> WorkerFact:
    """When it registered last, as its own log has it; a reconnect counts."""
    for event in reversed(events):
        if event.service == worker.service and event.message.startswith("registered worker"):
            return replace(worker, registered_at=event.at)
    return worker


async def _observe(what: str, source: Awaitable[T], timeout_s: float, problems: list[str]) -> T | None:
    try:
        async with deadline(timeout_s, f"inspecting {what}"):
            return await source
    except ConfigError:
        raise  # a secret that can't be had: nothing here can be judged without it
    except VoiceopsError as error:
        problems.append(f"could not inspect {what}: {error.message}")
        return None


async def observe_rooms(
    api: AgentRoomApi, wanted: str = "", *, now: float = 0.0
) -> tuple[tuple[RoomFact, ...], int]:
    """Rooms with their people and dispatches, or just the ``wanted`` one; and how many were left out.

    Every room in which the server counts somebody. Of the others, which are thousands where something
    makes rooms and nobody deletes them, ``UNCOUNTED_MOST``: the newest, whose counters lag, and the
    oldest. A dead node leaves all of its rooms behind, so that some of them show it.
    """
    listed = await api.list_rooms([wanted] if wanted else ())
    counted = [room for room in listed if wanted or room.num_participants or room.num_publishers]
    others = [room for room in listed if not (wanted or room.num_participants or room.num_publishers)]
    young = [room for room in others if now - room.created_at < COUNT_LAG_S]
    old = sorted(
        (room for room in others if now - room.created_at >= COUNT_LAG_S), key=lambda room: room.created_at
    )
    chosen = [*counted, *(young + old)[:UNCOUNTED_MOST]]
    return (await _observe_chosen(api, chosen))[0], len(listed) - len(chosen)


async def _observe_chosen(api: AgentRoomApi, chosen: Sequence[Room]) -> tuple[tuple[RoomFact, ...], int]:
    facts = await asyncio.gather(*(_room(api, room) for room in chosen))
    return tuple(fact for fact in facts if fact is not None), 0


async def _room(api: AgentRoomApi, room: Room) -> RoomFact | None:
    """One room with its people and dispatches; None when it has ended meanwhile."""
    participants = await api.list_participants(room.name)
    seen = RoomFact(
        name=room.name,
        sid=room.sid,
        created_at=room.created_at,
        empty_timeout_s=room.empty_timeout_s,
        participants=participants,
    )
    if participants and all(one.is_agent for one in participants):
        return seen  # nobody waits here, so its dispatches don't matter
    try:
        return replace(seen, dispatches=await api.list_dispatches(room.name))
    except VoiceopsError as error:
        if not any(again.sid == room.sid for again in await api.list_rooms([room.name])):
            return None  # it closed under our eyes, which looks like an orphan's error
        return replace(seen, dispatches=None, dispatch_error=error.message)
