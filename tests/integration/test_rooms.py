"""The room library on a real livekit-server, with a real worker and real participants."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.rooms import half_open_join, person
from tests.support import live, parts
from tests.support.projects import Project
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.deadline import deadline
from voiceops.errors import CallsInProgressError
from voiceops.model.protocol import READY_ATTRIBUTE
from voiceops.model.rooms import ParticipantState
from voiceops.model.secret import Secret
from voiceops.model.settings import RoomsSettings
from voiceops.rooms import presence
from voiceops.rooms.cleanup import CleanupReport, cleanup_stale_rooms
from voiceops.rooms.dispatch import dispatch_agent
from voiceops.rooms.observations import ObservationFile
from voiceops.rooms.reading import get_room_info, list_participants, list_rooms, remove_participant
from voiceops.rooms.removal import cleanup_room, ensure_clean_room
from voiceops.rooms.rules import Rule
from voiceops.rooms.selftest import selftest
from voiceops.rooms.waiting import AgentNotReadyError, bring_agent, wait_for_agent
from voiceops.rooms.watcher import AgentWatcher

AGENT = "rooms-tone"
ENTRY = Path(__file__).parent / "agents" / "tone.py"
EAGER = RoomsSettings(stale_after_s=0.0, stuck_agent_after_s=0.0, keep=["vip-*"])
ODD = "a \"b\" 'c' $(touch pwned) `d` \U0001f600\n[bold]e[/] \x1b[31m%s"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.LiveServer]:
    """A server of this module's own: its tests clean up whole servers."""
    with live.livekit_server(tmp_path_factory.mktemp("rooms")) as running:
        yield running


@pytest.fixture(scope="module")
def worker(server: live.LiveServer) -> Iterator[subprocess.Popen[bytes]]:
    with live.worker(server, ENTRY, env={"TONE_AGENT_NAME": AGENT}) as process:
        yield process


@pytest.fixture
def brief_worker(server: live.LiveServer) -> Iterator[str]:
    """The name of a worker of one test's own.

    A job whose room goes while it connects can end its worker 15 s later, where jobs are threads: LiveKit's engine gets
    through after all, nobody answers it, and it gives up with all that it carries.
    """
    name = f"brief-{uuid.uuid4().hex[:8]}"
    with live.worker(server, ENTRY, env={"TONE_AGENT_NAME": name}):
        yield name


@pytest_asyncio.fixture
async def api(server: live.LiveServer) -> AsyncIterator[LivekitApi]:
    async with LivekitApi(server.url, Secret(server.api_key), Secret(server.api_secret)) as session:
        yield session
        for room in await session.list_rooms():
            await ensure_clean_room(session, room.name, force=True)


@pytest.fixture
def room() -> str:
    return f"room-{uuid.uuid4().hex[:8]}"


def rules(report: CleanupReport) -> dict[str, Rule]:
    return {one.snapshot.room.name: one.rule for one in (*report.deleted, *report.kept)}


async def joined(api: LivekitApi, room: str, identity: str) -> None:
    """Wait until the server has a participant as active: its client may be there a moment before."""
    for _ in range(400):
        for one in await list_participants(api, room):
            if one.identity == identity and one.state is ParticipantState.ACTIVE:
                return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{identity} did not become active in {room}")


async def test_each_kind_of_room_is_kept_or_deleted_for_its_own_reason(
    api: LivekitApi,
    server: live.LiveServer,
    worker: subprocess.Popen[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = ObservationFile(tmp_path / "seen.json")
    monkeypatch.setattr(presence.is_stuck_join, "__kwdefaults__", {"after_s": 0.0})
    for name in ("empty", "vip-empty"):
        await api.create_room(name, agents=["__nobody__"])
    await bring_agent(api, "agents", AGENT)
    await bring_agent(api, "called", AGENT)
    async with AsyncExitStack() as people:
        await people.enter_async_context(person(server, "called"))
        await people.enter_async_context(half_open_join(server, "called", "half"))
        await people.enter_async_context(half_open_join(server, "stuck", "half"))
        await people.enter_async_context(person(server, "watched", "monitor-1"))
        await joined(api, "called", "caller")
        await joined(api, "watched", "monitor-1")
        first = await cleanup_stale_rooms(api, EAGER, check=True, memory=memory, confirm_within_s=0)
        assert rules(first) == {
            "empty": Rule.EMPTY,
            "vip-empty": Rule.PROTECTED,
            "agents": Rule.AGENTS_ALONE,
            "called": Rule.PERSON,
            "stuck": Rule.STUCK_JOIN,
            "watched": Rule.IDLE_ONLY,
        }
        done = await cleanup_stale_rooms(api, EAGER, memory=memory)
        assert rules(done) == rules(first)
        assert [(one.participant.identity, one.rule) for one in done.removed] == [("half", Rule.STUCK_JOIN)]
        assert {one.name for one in await api.list_rooms()} == {"vip-empty", "called"}
        kept = {one.identity for one in await list_participants(api, "called")}
        assert "caller" in kept
        assert "half" not in kept
        assert len(kept) == 2


async def test_an_agent_that_says_it_has_ended_is_replaced_for_its_caller(
    api: LivekitApi, server: live.LiveServer, worker: subprocess.Popen[bytes], room: str
) -> None:
    says = {READY_ATTRIBUTE: "0", "lk.agent.name": AGENT, "lk.agent.state": "listening"}
    await api.create_room(room, agents=["__nobody__"])
    async with person(server, room), person(server, room, "agent-inert", agent=True, attributes=says):
        report = await cleanup_stale_rooms(api)
        assert [(one.participant.identity, one.rule) for one in report.removed] == [
            ("agent-inert", Rule.INERT_AGENT)
        ]
        ready = await wait_for_agent(api, room, AGENT, timeout_s=15)
        assert ready.participant.identity != "agent-inert"


async def test_the_default_rules_touch_nothing_that_is_minutes_old(
    api: LivekitApi, server: live.LiveServer, room: str
) -> None:
    await api.create_room(room, agents=["__nobody__"])
    async with person(server, f"{room}-called"):
        report = await cleanup_stale_rooms(api)
        assert not report.changed
        with pytest.raises(CallsInProgressError):
            await cleanup_room(api, f"{room}-called")
    assert len(await list_rooms(api, [room])) == 1


async def test_a_room_that_an_agent_in_flight_makes_anew_is_gone_at_the_end(
    api: LivekitApi, brief_worker: str, room: str
) -> None:
    rooms = [f"{room}-{gap}" for gap in range(5)]
    for index, name in enumerate(rooms):
        await api.create_room(name, agents=[brief_worker])
        await asyncio.sleep(0.05 * (index > 0))
    report = await cleanup_stale_rooms(api, EAGER, force=True)
    assert {one.snapshot.room.name for one in report.deleted} == set(rooms)
    assert await list_rooms(api, rooms) == ()


async def test_a_hundred_dispatches_from_several_processes_bring_one_agent(
    api: LivekitApi, server: live.LiveServer, worker: subprocess.Popen[bytes], room: str
) -> None:
    script = f"""
import asyncio
import json
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.model.secret import Secret
from voiceops.rooms.dispatch import dispatch_agent
async def main():
    async with LivekitApi({server.url!r}, Secret({server.api_key!r}), Secret({server.api_secret!r})) as api:
        done = await asyncio.gather(*(dispatch_agent(api, {room!r}, {AGENT!r}) for _ in range(25)))
        print(sum(one.created for one in done))
asyncio.run(main())
"""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."}
        )
        for _ in range(4)
    ]
    printed = [int((await one.communicate())[0]) for one in processes]
    assert sum(printed) == 1
    await wait_for_agent(api, room, AGENT, timeout_s=15)
    info = await get_room_info(api, room)
    assert (len(info.agents), len(info.dispatches)) == (1, 1)


async def test_of_hosts_that_share_no_lock_only_one_dispatch_stays(
    api: LivekitApi, worker: subprocess.Popen[bytes], room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voiceops.rooms import dispatch

    monkeypatch.setattr(dispatch, "lock_folder", lambda: Path("/nonexistent"))
    await asyncio.gather(*(dispatch_agent(api, room, AGENT) for _ in range(20)))
    await wait_for_agent(api, room, AGENT, timeout_s=15)
    info = await get_room_info(api, room)
    assert [one.agent_name for one in info.dispatches] == [AGENT]


async def test_an_agent_that_does_not_come_is_explained_and_leaves_no_room(
    api: LivekitApi, worker: subprocess.Popen[bytes], room: str
) -> None:
    with pytest.raises(AgentNotReadyError, match="no worker has taken the job"):
        await bring_agent(api, room, "no-such-agent", timeout_s=0.5)
    with pytest.raises(AgentNotReadyError, match="neither listens nor publishes"):
        await bring_agent(api, f"{room}-mute", AGENT, timeout_s=3)
    assert await list_rooms(api, [room, f"{room}-mute"]) == ()


async def test_the_watcher_brings_an_agent_to_a_caller_once_and_removes_an_extra(
    api: LivekitApi, server: live.LiveServer, worker: subprocess.Popen[bytes], room: str
) -> None:
    watcher = AgentWatcher(api, agent_name=AGENT, sure_after_s=1.0)
    await api.create_room(room, agents=["__nobody__"])
    async with person(server, room):
        assert not (await watcher.check()).dispatched
        await asyncio.sleep(1.1)
        assert len((await watcher.check()).dispatched) == 1
        assert not (await watcher.check()).dispatched
        serves = (await wait_for_agent(api, room, AGENT, timeout_s=15)).participant.identity
        await api.create_dispatch(room, AGENT)
        removed: list[tuple[str, str]] = []
        async with deadline(30, "waiting for the extra agent to be removed"):
            while not removed:
                removed += (await watcher.check()).removed
                await asyncio.sleep(0.2)
        assert removed[0][1] != serves
        left = [one.identity for one in await list_participants(api, room) if one.is_agent]
        assert left == [serves]


async def test_removing_a_participant_twice_is_no_error(
    api: LivekitApi, server: live.LiveServer, room: str
) -> None:
    async with person(server, room):
        assert await remove_participant(api, room, "caller")
        assert not await remove_participant(api, room, "caller")


async def test_the_selftest_passes_and_touches_no_other_room(
    api: LivekitApi, server: live.LiveServer, room: str
) -> None:
    await api.create_room(room, agents=["__nobody__"])
    async with person(server, f"{room}-called"):
        steps = await selftest(api)
        assert all(step.ok for step in steps), [step for step in steps if not step.ok]
        assert {one.name for one in await api.list_rooms()} == {room, f"{room}-called"}


async def test_the_selftest_says_which_step_fails() -> None:
    async with LivekitApi("ws://127.0.0.1:1", Secret("k"), Secret("s" * 32)) as api:
        with pytest.raises(Exception, match="can't be reached"):
            await selftest(api)


@pytest.fixture
def project(server: live.LiveServer, tmp_path: Path) -> Project:
    made = Project(
        folder=tmp_path,
        url=server.url,
        variables={
            "project": "rooms",
            "livekit": {
                "url": server.url,
                "api_key": {"env": "LIVEKIT_API_KEY"},
                "api_secret": {"env": "LIVEKIT_API_SECRET"},
            },
            "rooms": {"stale_after_s": 300},
        },
        env=server.environment(),
    )
    made.write()
    (tmp_path / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    return made


def test_a_room_with_a_hostile_name_goes_through_every_command(project: Project) -> None:
    dispatched = project.inv("rooms.dispatch", ODD, "--agent", "__nobody__", "--json").json
    assert dispatched["changed"]
    assert not project.inv("rooms.dispatch", ODD, "--agent", "__nobody__", "--json").json["changed"]
    (listed,) = project.inv("rooms.list", "--json").json["rooms"]
    assert listed["room"] == ODD
    shown = project.inv("rooms.show", ODD).out + project.inv("rooms.list").out
    assert "\x1b[31m" not in shown
    assert "[bold]e[/]" in shown
    assert project.inv("rooms.show", ODD, "--json").json["room"] == ODD
    project.inv("rooms.kick", ODD, "nobody")
    waited = project.inv("rooms.wait-agent", ODD, "--agent", "__nobody__", "--timeout", "0.2", code=1)
    assert "no worker has taken the job" in waited.err
    project.env["ROOM_STALE_TIMEOUT"] = "0"
    (planned,) = project.inv("cleanup-rooms", "--check", "--json", code=2).json["deleted"]
    assert (planned["room"], planned["rule"]) == (ODD, "empty")
    assert project.inv("rooms.ensure-clean", ODD, "--json").json["changed"]
    assert not project.inv("rooms.delete", ODD, "--json").json["changed"]
    assert project.inv("rooms.list", "--json").json == {"ok": True, "rooms": []}
    assert not (project.folder / "pwned").exists()


def test_a_name_that_is_too_long_is_a_clear_error(project: Project) -> None:
    refused = project.inv("rooms.dispatch", "x" * 500, code=3)
    assert "max length 256" in refused.err
    project.inv("rooms.show", "x" * 500, code=1)
    project.inv("rooms.delete", "x" * 500)


def test_cleanup_is_quiet_for_cron_and_says_what_it_can_t_do(project: Project) -> None:
    quiet = project.inv("cleanup-rooms", "--quiet")
    assert (quiet.out, quiet.err) == ("", "")
    project.env["LIVEKIT_API_SECRET"] = "another-secret-of-32-characters-or-more"
    refused = project.inv("cleanup-rooms", "--quiet", code=5)
    assert "API key or secret is wrong" in refused.err


def test_cleanup_proves_within_one_run_that_an_agent_is_alone(
    project: Project, worker: subprocess.Popen[bytes]
) -> None:
    project.variables["rooms"] = {"stale_after_s": 300, "stuck_agent_after_s": 0.2}
    project.write()
    project.inv("rooms.dispatch", "stuck", "--agent", AGENT, "--wait", "--timeout", "60")
    time.sleep(0.5)  # one that came within the 0.2 s is left to the next run
    (deleted,) = project.inv("cleanup-rooms", "--json").json["deleted"]
    assert (deleted["room"], deleted["rule"]) == ("stuck", "agents-alone")


def test_a_frozen_worker_is_named_by_dispatch(
    project: Project, server: live.LiveServer, worker: subprocess.Popen[bytes]
) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        failed = project.inv("rooms.dispatch", "frozen", "--agent", AGENT, "--wait", "--timeout", "2", code=1)
        assert "none is registered under that name, or it is full or frozen" in failed.err
        assert project.inv("rooms.list", "--json").json == {"ok": True, "rooms": []}
    finally:
        os.kill(worker.pid, signal.SIGCONT)


async def test_a_server_that_can_not_be_asked_keeps_no_other_from_being_cleaned(
    server: live.LiveServer, api: LivekitApi, tmp_path: Path
) -> None:
    there = f"ws://127.0.0.1:{parts.free_port()}"
    keys = {"api_key": server.api_key, "api_secret": server.api_secret}
    hosts = {
        name: {"ansible_connection": "local", "livekit": {"url": url, **keys}}
        for name, url in (("dead", there), ("live", server.url))
    }
    made = Project(folder=tmp_path, url=server.url, variables={})
    inventory = {"all": {"vars": {"project": "two", "rooms": {"stale_after_s": 0.1}}, "hosts": hosts}}
    (tmp_path / "inventory.yaml").write_text(json.dumps(inventory))
    (tmp_path / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    await api.create_room("two-servers")
    await asyncio.sleep(1.5)
    both = ("--limit", "all", "--json")
    listed = (await asyncio.to_thread(made.inv, "rooms.list", *both, code=5)).json
    assert "two-servers" in [one["room"] for one in listed["rooms"]]
    cleaned = (await asyncio.to_thread(made.inv, "cleanup-rooms", *both, code=5)).json
    assert "two-servers" in [one["room"] for one in cleaned["deleted"]]
    for document in (listed, cleaned):
        assert [one["url"] for one in document["servers_failed"]] == [there]
    alone = await asyncio.to_thread(made.inv, "cleanup-rooms", "--limit", "dead", "--json", code=5)
    assert "servers_failed" not in alone.json
    assert alone.json["error"]["hint"]
