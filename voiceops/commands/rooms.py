"""Rooms of the selected hosts' LiveKit servers: list, show, delete, dispatch, wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from voiceops.adapters.livekit.api import LivekitApi
from voiceops.cli import output
from voiceops.cli.command import CommandRun, Report
from voiceops.commands.rooms_view import (
    cleanup_document,
    cleanup_text,
    print_room,
    print_rooms,
    room_document,
    room_entry,
)
from voiceops.deadline import Deadline, deadline
from voiceops.errors import VoiceopsError
from voiceops.model import timeouts
from voiceops.model.quoting import printable
from voiceops.model.rooms import Room, RoomInfo
from voiceops.rooms import reading
from voiceops.rooms import selftest as room_library
from voiceops.rooms.cleanup import CleanupReport, cleanup_stale_rooms
from voiceops.rooms.dispatch import DispatchResult, dispatch_agent
from voiceops.rooms.each import each
from voiceops.rooms.live_calls import live_rooms
from voiceops.rooms.observations import ObservationFile
from voiceops.rooms.reading import get_room_info, list_participants, remove_participant
from voiceops.rooms.removal import cleanup_room, ensure_clean_room
from voiceops.rooms.rules import protected_by
from voiceops.rooms.servers import RoomServer, room_servers, the_room_server
from voiceops.rooms.waiting import ReadyAgent, bring_agent, wait_for_agent
from voiceops.stack.results import calls_error
from voiceops.util import aio
from voiceops.wiring.rooms import room_api

if TYPE_CHECKING:
    from voiceops.model.documents.rooms import (
        DispatchDocument,
        KickDocument,
        RoomChangeDocument,
        RoomEntry,
        RoomsDocument,
        SelftestDocument,
        SelftestStep,
        ServerFailure,
        ServersFailed,
        WaitAgentDocument,
    )


def cleanup(run: CommandRun, *, every: bool, quiet: bool) -> Report:
    """Delete unused rooms on each LiveKit of the selected hosts, or ``every`` room that is not kept."""
    servers = room_servers(run.project.hosts)
    if every and not run.yes and not run.check:
        _refuse_to_cut_off(run, servers)

    reports: dict[str, CleanupReport] = {}

    async def clean(api: LivekitApi, server: RoomServer) -> None:
        reports[server.url] = await cleanup_stale_rooms(
            api,
            server.rooms,
            force=every,
            check=run.check,
            memory=ObservationFile(run.project.rooms_memory),
        )

    unreachable = _at_each(run, clean, "cleaning up rooms", timeouts.CLEANUP_ROOMS_S)
    data = cleanup_document(reports, check=run.check)
    failed = bool(data["failed"])
    if failed and not run.json:
        for one in data["failed"]:
            run.say(f"failed {printable(one['room'])}: {one['error']['message']}")
    changed = any(report.changed for report in reports.values())
    return Report(
        data | _entries(unreachable),
        "" if quiet else cleanup_text(data),
        exit_code=_exit_code(unreachable, 1 if failed else 2 if run.check and changed else 0),
    )


def _refuse_to_cut_off(run: CommandRun, servers: Sequence[RoomServer]) -> None:
    """``CallsInProgressError`` if a person is in a room that is not among the kept ones."""
    found: list[str] = []
    for server in servers:

        async def read(api: LivekitApi, server: RoomServer = server) -> None:
            calls = (await live_rooms(api, server.rooms)).calls
            found.extend(call.room for call in calls if protected_by(call.room, server.rooms) is None)

        _on(run, server, read, "looking who is in a call")
    if found:
        raise calls_error(found, "this would cut them off", hint="give --yes to drop them")


def list_rooms(run: CommandRun) -> Report:
    """All rooms of these servers, with who is in them."""
    rooms: list[RoomEntry] = []

    async def read(api: LivekitApi, server: RoomServer) -> None:
        async def one(room: Room) -> RoomEntry:
            people = await list_participants(api, room.name)
            return room_entry(room, people, server, time.time() + api.clock_skew_s)

        rows, failed = await each(await reading.list_rooms(api), one, concurrency=server.rooms.concurrency)
        if failed:
            raise failed[0][1]
        rooms.extend(sorted(rows, key=lambda row: -row["age_s"]))

    unreachable = _at_each(run, read, "listing rooms", timeouts.ROOMS_S)
    document: RoomsDocument = {"rooms": rooms}
    return Report(document | _entries(unreachable), lambda: print_rooms(rooms), _exit_code(unreachable, 0))


def show(run: CommandRun, room: str) -> Report:
    """Participants and dispatches of one room."""
    server = the_room_server(run.project.hosts)
    info: RoomInfo = _on(run, server, lambda api: get_room_info(api, room), "reading the room")
    return Report(room_document(info, server.url), lambda: print_room(info))


def delete(run: CommandRun, room: str) -> Report:
    """Delete one room, unless a person is in it."""
    server = the_room_server(run.project.hosts)
    gone = _on(
        run,
        server,
        lambda api: cleanup_room(api, room, force=run.yes, settings=server.rooms),
        "deleting the room",
    )
    said = "deleted" if gone else "does not exist, nothing to do"
    document: RoomChangeDocument = {"room": room, "changed": gone}
    return Report(document, f"room {printable(room)} {said}")


def kick(run: CommandRun, room: str, identity: str) -> Report:
    """Disconnect one participant."""
    server = the_room_server(run.project.hosts)
    gone = _on(run, server, lambda api: remove_participant(api, room, identity), "removing the participant")
    said = "removed from" if gone else "is not in"
    document: KickDocument = {"room": room, "identity": identity, "changed": gone}
    return Report(
        document, f"{printable(identity)} {said} room {printable(room)}{'' if gone else ', nothing to do'}"
    )


def ensure_clean(run: CommandRun, room: str) -> Report:
    """Delete the room unless it is fresh."""
    server = the_room_server(run.project.hosts)
    changed = _on(
        run,
        server,
        lambda api: ensure_clean_room(api, room, force=run.yes, settings=server.rooms),
        "cleaning the room",
    )
    said = "cleaned" if changed else "was clean, nothing to do"
    document: RoomChangeDocument = {"room": room, "changed": changed}
    return Report(document, f"room {printable(room)} {said}")


def dispatch(run: CommandRun, room: str, agent: str | None, *, metadata: str, wait: bool) -> Report:
    """Dispatch one agent to a room, unless one is there or on its way."""
    server = the_room_server(run.project.hosts)
    name = server.agent(agent)

    async def act(api: LivekitApi) -> tuple[DispatchResult, ReadyAgent | None]:
        if not wait:
            return await dispatch_agent(api, room, name, metadata=metadata), None
        limit_s = run.timeout or server.rooms.agent_wait_timeout_s
        return await bring_agent(api, room, name, metadata=metadata, timeout_s=limit_s, settings=server.rooms)

    done, ready = _on(run, server, act, "dispatching the agent", at_least_s=run.timeout + 30.0)
    agent_there = done.agent if ready is None else ready.participant
    document: DispatchDocument = {
        "room": room,
        "changed": done.created,
        "agent_name": done.agent_name,
        "made_room": done.made_room,
        "reason": done.reason,
        "dispatch_id": done.dispatch_id,
        "agent": None if agent_there is None else agent_there.identity,
        "ready_s": None if ready is None else round(ready.waited_s, 3),
    }
    did = "an agent was dispatched" if done.created else "nothing to do"
    said = f"room {printable(room)}: {did}: {done.reason}"
    if ready is not None:
        said += f"; ready after {ready.waited_s:.2f} s"
    return Report(document, said)


def wait_agent(run: CommandRun, room: str, agent: str | None) -> Report:
    """Wait until an agent in the room is ready."""
    server = the_room_server(run.project.hosts)
    limit_s = run.timeout or server.rooms.agent_wait_timeout_s
    ready = _on(
        run,
        server,
        lambda api: wait_for_agent(api, room, agent, timeout_s=limit_s),
        "waiting for the agent",
        at_least_s=limit_s + 30.0,
    )
    document: WaitAgentDocument = {
        "room": room,
        "agent": ready.participant.identity,
        "ready_s": round(ready.waited_s, 3),
    }
    return Report(document, f"{printable(ready.participant.identity)} is ready in room {printable(room)}")


def selftest(run: CommandRun) -> Report:
    """Run the self-test on each LiveKit of the selected hosts."""
    steps: list[SelftestStep] = []

    async def test(api: LivekitApi, server: RoomServer) -> None:
        def tell(step: room_library.Step) -> None:
            steps.append(
                {
                    "name": step.name,
                    "ok": step.ok,
                    "took_s": step.took_s,
                    "detail": step.detail,
                    "url": server.url,
                }
            )
            if not run.json:
                mark = "ok    " if step.ok else "FAILED"
                detail = f" ({printable(step.detail)})" if step.detail else ""
                output.show(f"{mark} {step.took_s:7.3f} s  {step.name}{detail}")
                sys.stdout.flush()

        await room_library.selftest(api, tell=tell)

    unreachable = _at_each(run, test, "the self-test", timeouts.ROOMS_S)
    ok = all(step["ok"] for step in steps)
    document: SelftestDocument = {"steps": steps}
    return Report(
        document | _entries(unreachable),
        "" if ok else "the room library does not work on this server",
        _exit_code(unreachable, 1 - ok),
    )


_Failures = list[tuple[RoomServer, VoiceopsError]]


def _at_each(
    run: CommandRun, act: Callable[[LivekitApi, RoomServer], Awaitable[None]], what: str, timeout_s: float
) -> _Failures:
    """Act on each LiveKit of the selected hosts, under one deadline; returns those that could not be asked.

    One that fails takes no more than its share of the time. The only one raises its error.
    """
    servers = room_servers(run.project.hosts)
    limit = Deadline(run.timeout or timeout_s, what)
    failed: _Failures = []

    async def one(server: RoomServer, share_s: float) -> None:
        async with deadline(share_s, what), room_api(server) as api:
            await act(api, server)

    for number, server in enumerate(servers):
        try:
            aio.run(one(server, limit.remaining_s / (len(servers) - number)))
        except VoiceopsError as error:
            if len(servers) == 1:
                raise
            run.say(f"failed {server.url}: {error.message}")
            failed.append((server, error))
    return failed


def _entries(unreachable: _Failures) -> ServersFailed:
    """What documents say of the servers that could not be asked; nothing where all could."""
    failed: list[ServerFailure] = [
        {"url": server.url, "error": error.as_json()} for server, error in unreachable
    ]
    return {"servers_failed": failed} if failed else {}


def _exit_code(unreachable: _Failures, otherwise: int) -> int:
    return max((error.exit_code for _, error in unreachable), default=otherwise)


def _on(
    run: CommandRun,
    server: RoomServer,
    act: Callable[[LivekitApi], Awaitable[object]],
    what: str,
    *,
    at_least_s: float = 0.0,
) -> Any:
    """``act`` with a session on the server, under the command's deadline."""

    async def main() -> object:
        async with deadline(max(run.timeout or timeouts.ROOMS_S, at_least_s), what), room_api(server) as api:
            return await act(api)

    return aio.run(main())
