"""The room library, by hand and from cron."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from invoke import Collection

from voiceops.cli.command import TARGETS, Report, Run, command
from voiceops.commands.rooms_view import cleanup_data, cleanup_text, print_room, print_rooms
from voiceops.model.quoting import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from voiceops.adapters.livekit.api import LivekitApi
    from voiceops.model.rooms import Participant, RoomInfo
    from voiceops.rooms.cleanup import CleanupReport
    from voiceops.rooms.dispatch import Dispatched
    from voiceops.rooms.selftest import Step
    from voiceops.rooms.waiting import ReadyAgent
    from voiceops.wiring.rooms import RoomServer

COMMAND_TIMEOUT_S = 60.0
CLEANUP_TIMEOUT_S = 240.0
"""Below the five minutes after which cron starts the next one."""

_FORCE = "Even if a person is in the room: the call is cut off."
_ROOM = "Name of the room."
_AGENT = "Name of the agent (default: the one that the inventory declares)."


@command(
    *TARGETS,
    "timeout",
    "check",
    name="cleanup-rooms",
    help={
        "force": "Delete all rooms but those of the keep patterns, live calls too.",
        "quiet": "Print nothing unless something failed: for cron.",
    },
)
def cleanup_rooms(run: Run, force: bool = False, quiet: bool = False) -> Report:
    """Delete the rooms that nobody uses, and say why for each room kept or deleted.

    Example: inv cleanup-rooms --check
    """
    from voiceops.deadline import deadline
    from voiceops.rooms.cleanup import cleanup_stale_rooms
    from voiceops.util import aio
    from voiceops.wiring.rooms import room_servers

    servers = room_servers(run.project)

    async def clean(server: RoomServer) -> CleanupReport:
        async with server.api() as api:
            return await cleanup_stale_rooms(
                api, server.rooms, force=force, check=run.check, memory=server.memory()
            )

    async def main() -> list[CleanupReport]:
        async with deadline(run.timeout or CLEANUP_TIMEOUT_S, "cleaning up rooms"):
            return [await clean(server) for server in servers]

    reports = aio.run(main())
    data = cleanup_data([server.url for server in servers], reports, check=run.check)
    failed = bool(data["failed"])
    if failed and not run.json:
        for one in data["failed"]:
            run.say(f"failed {printable(one['room'])}: {one['error']}")
    changed = any(report.changed for report in reports)
    return Report(
        data,
        "" if quiet else cleanup_text(data),
        exit_code=1 if failed else 2 if run.check and changed else 0,
    )


@command(*TARGETS, "timeout")
def list_(run: Run) -> Report:
    """All rooms, with who is in them.

    Example: inv rooms.list --json
    """
    from voiceops.rooms.each import each
    from voiceops.rooms.reading import list_participants, list_rooms
    from voiceops.wiring.rooms import room_servers

    rooms: list[dict[str, Any]] = []
    for server in room_servers(run.project):

        async def look(api: LivekitApi, server: RoomServer = server) -> None:
            async def one(room: Any) -> dict[str, Any]:
                people = await list_participants(api, room.name)
                return _room_row(server, room, people, time.time() + api.clock_skew_s)

            rows, failed = await each(await list_rooms(api), one, concurrency=server.rooms.concurrency)
            if failed:
                raise failed[0][1]
            rooms.extend(sorted(rows, key=lambda row: -row["age_s"]))

        _on(run, server, look, "listing rooms")
    return Report({"rooms": rooms}, lambda: print_rooms(rooms))


def _room_row(server: RoomServer, room: Any, people: Sequence[Participant], now: float) -> dict[str, Any]:
    from voiceops.rooms.presence import persons, serving

    callers = persons(people, server.rooms)
    return {
        "room": room.name,
        "sid": room.sid,
        "age_s": round(now - room.created_at, 1),
        "persons": [one.identity for one in callers],
        "agents": [
            {"identity": one.identity, "name": one.agent_name, "state": serving(one).value}
            for one in people
            if one.is_agent
        ],
        "others": [one.identity for one in people if not one.is_agent and one not in callers],
        "server": server.url,
    }


@command(*TARGETS, "timeout", help={"room": _ROOM})
def show(run: Run, room: str) -> Report:
    """One room: who is in it, and which agents it has been promised.

    Example: inv rooms.show front-desk
    """
    from msgspec import to_builtins

    from voiceops.rooms.reading import get_room_info
    from voiceops.wiring.rooms import the_room_server

    server = the_room_server(run.project)
    info: RoomInfo = _on(run, server, lambda api: get_room_info(api, room), "looking at the room")
    return Report(to_builtins(info), lambda: print_room(info))


@command(*TARGETS, "timeout", help={"room": _ROOM, "force": _FORCE})
def delete(run: Run, room: str, force: bool = False) -> Report:
    """Delete one room; nothing to do if there is none.

    Example: inv rooms.delete front-desk
    """
    from voiceops.rooms.removal import cleanup_room
    from voiceops.wiring.rooms import the_room_server

    server = the_room_server(run.project)
    gone = _on(
        run,
        server,
        lambda api: cleanup_room(api, room, force=force, settings=server.rooms),
        "deleting the room",
    )
    said = "deleted" if gone else "there is no such room, nothing to do"
    return Report({"room": room, "changed": gone}, said)


@command(*TARGETS, "timeout", help={"room": _ROOM, "identity": "Identity of the participant."})
def kick(run: Run, room: str, identity: str) -> Report:
    """Disconnect one participant; nothing to do if it is not there.

    Example: inv rooms.kick front-desk monitor-7
    """
    from voiceops.rooms.reading import remove_participant
    from voiceops.wiring.rooms import the_room_server

    server = the_room_server(run.project)
    gone = _on(run, server, lambda api: remove_participant(api, room, identity), "removing the participant")
    said = "removed" if gone else "no such participant is there, nothing to do"
    return Report({"room": room, "identity": identity, "changed": gone}, said)


@command(*TARGETS, "timeout", help={"room": _ROOM, "force": _FORCE})
def ensure_clean(run: Run, room: str, force: bool = False) -> Report:
    """See to it that the next one to join gets a fresh room.

    Example: inv rooms.ensure-clean front-desk
    """
    from voiceops.rooms.removal import ensure_clean_room
    from voiceops.wiring.rooms import the_room_server

    server = the_room_server(run.project)
    changed = _on(
        run,
        server,
        lambda api: ensure_clean_room(api, room, force=force, settings=server.rooms),
        "cleaning the room",
    )
    said = "cleaned" if changed else "it was clean, nothing to do"
    return Report({"room": room, "changed": changed}, said)


@command(
    *TARGETS,
    "timeout",
    help={
        "room": _ROOM,
        "agent": _AGENT,
        "metadata": "Text that the agent's job gets.",
        "wait": "Wait until the agent is ready; if it does not come, a room made for it goes again.",
    },
)
def dispatch(run: Run, room: str, agent: str | None = None, metadata: str = "", wait: bool = False) -> Report:
    """Bring one agent into a room, unless one is there or on its way.

    Example: inv rooms.dispatch front-desk --wait
    """
    from msgspec import to_builtins

    from voiceops.rooms.dispatch import dispatch_agent
    from voiceops.rooms.waiting import bring_agent
    from voiceops.wiring.rooms import the_room_server

    server = the_room_server(run.project)
    name = server.agent(agent)

    async def act(api: LivekitApi) -> tuple[Dispatched, ReadyAgent | None]:
        if not wait:
            return await dispatch_agent(api, room, name, metadata=metadata), None
        limit_s = run.timeout or server.rooms.agent_wait_timeout_s
        return await bring_agent(api, room, name, metadata=metadata, timeout_s=limit_s, settings=server.rooms)

    done, ready = _on(run, server, act, "dispatching the agent", at_least_s=run.timeout + 30.0)
    data = to_builtins(done) | {"changed": done.created}
    said = f"dispatched: {done.reason}" if done.created else f"nothing to do: {done.reason}"
    if ready is not None:
        data |= {"agent": ready.participant.identity, "ready_s": round(ready.waited_s, 3)}
        said += f"; ready after {ready.waited_s:.2f} s"
    return Report(data, said)


@command(*TARGETS, "timeout", name="wait-agent", help={"room": _ROOM, "agent": _AGENT})
def wait_agent(run: Run, room: str, agent: str | None = None) -> Report:
    """Wait until an agent in the room is ready, or say why none is.

    Example: inv rooms.wait-agent front-desk --timeout 15
    """
    from voiceops.rooms.waiting import wait_for_agent
    from voiceops.wiring.rooms import the_room_server

    server = the_room_server(run.project)
    limit_s = run.timeout or server.rooms.agent_wait_timeout_s
    ready = _on(
        run,
        server,
        lambda api: wait_for_agent(api, room, agent, timeout_s=limit_s),
        "waiting for the agent",
        at_least_s=limit_s + 30.0,
    )
    data = {"room": room, "agent": ready.participant.identity, "ready_s": round(ready.waited_s, 3)}
    return Report(data, f"{printable(ready.participant.identity)} is ready")


@command(*TARGETS, "timeout")
def selftest(run: Run) -> Report:
    """Prove the room library on the configured server, with rooms of its own: after an upgrade.

    Example: inv rooms.selftest
    """
    from msgspec import to_builtins

    from voiceops.rooms.selftest import selftest as prove
    from voiceops.wiring.rooms import room_servers

    steps: list[dict[str, Any]] = []
    for server in room_servers(run.project):

        def tell(step: Step, server: RoomServer = server) -> None:
            steps.append(to_builtins(step) | {"server": server.url})
            if not run.json:
                mark = "ok    " if step.ok else "FAILED"
                detail = f" ({printable(step.detail)})" if step.detail else ""
                print(f"{mark} {step.took_s:7.3f} s  {step.name}{detail}", flush=True)

        _on(run, server, lambda api, tell=tell: prove(api, tell=tell), "the self-test")  # type: ignore[misc]
    ok = all(step["ok"] for step in steps)
    return Report(
        {"ok": ok, "steps": steps}, "" if ok else "the room library does not work on this server", 1 - ok
    )


def _on(
    run: Run,
    server: RoomServer,
    act: Callable[[LivekitApi], Awaitable[Any]],
    what: str,
    *,
    at_least_s: float = 0.0,
) -> Any:
    """``act`` with a session on the server, under the command's deadline."""
    from voiceops.deadline import deadline
    from voiceops.util import aio

    async def main() -> Any:
        async with deadline(max(run.timeout or COMMAND_TIMEOUT_S, at_least_s), what), server.api() as api:
            return await act(api)

    return aio.run(main())


collection = Collection("rooms")
for _task, _name in (
    (list_, "list"),
    (show, "show"),
    (delete, "delete"),
    (kick, "kick"),
    (ensure_clean, "ensure-clean"),
    (dispatch, "dispatch"),
    (wait_agent, "wait-agent"),
    (selftest, "selftest"),
):
    collection.add_task(_task, name=_name)
