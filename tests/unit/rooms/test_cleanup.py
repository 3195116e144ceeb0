"""Cleanup carried out on the fake: second readings, failures, orphans, what comes back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.livekit_api import FakeLivekitApi
from voiceops.errors import CallsInProgressError, UnreachableError, VoiceopsError
from voiceops.model.protocol import READY_ATTRIBUTE
from voiceops.model.rooms import Participant, ParticipantKind
from voiceops.model.settings import RoomsSettings
from voiceops.rooms import cleanup, rules
from voiceops.rooms.cleanup import cleanup_stale_rooms
from voiceops.rooms.observations import ObservationFile
from voiceops.rooms.removal import NOBODY, RoomsRemainError, cleanup_room, delete_room, ensure_clean_room
from voiceops.rooms.rules import Observation, Rule

SETTINGS = RoomsSettings()


def caller(identity: str = "caller", **fields: Any) -> Participant:
    return Participant(identity=identity, sid=f"PA_{identity}", joined_at=time.time() - 100, **fields)


def agent(identity: str = "agent-1", *, joined_s: float = 1000, **fields: Any) -> Participant:
    return Participant(
        identity=identity,
        sid=f"PA_{identity}",
        kind=ParticipantKind.AGENT,
        joined_at=time.time() - joined_s,
        **fields,
    )


@pytest.fixture
def api() -> FakeLivekitApi:
    return FakeLivekitApi()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "SETTLE_S", 0.0)


def unreachable() -> VoiceopsError:
    return UnreachableError("no response", retryable=True)


async def test_stale_rooms_go_and_the_others_stay(api: FakeLivekitApi) -> None:
    api.put("old", age_s=400)
    api.put("young", age_s=10)
    api.put("called", caller(), age_s=4000)
    report = await cleanup_stale_rooms(api, SETTINGS)
    assert [one.snapshot.room.name for one in report.deleted] == ["old"]
    assert set(api.rooms) == {"young", "called"}
    assert {one.rule for one in report.kept} == {Rule.YOUNG, Rule.PERSON}


async def test_a_second_run_changes_nothing(api: FakeLivekitApi) -> None:
    api.put("old", age_s=400)
    await cleanup_stale_rooms(api, SETTINGS)
    again = await cleanup_stale_rooms(api, SETTINGS)
    assert not again.changed


async def test_check_says_the_same_and_changes_nothing(api: FakeLivekitApi) -> None:
    api.put("old", age_s=400)
    planned = await cleanup_stale_rooms(api, SETTINGS, check=True)
    assert set(api.rooms) == {"old"}
    done = await cleanup_stale_rooms(api, SETTINGS)
    assert [(one.snapshot.room.name, one.reason) for one in planned.deleted] == [
        (one.snapshot.room.name, one.reason) for one in done.deleted
    ]


async def test_a_caller_who_comes_between_list_and_delete_keeps_the_room(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put("old", age_s=400)
    api.put("stays", agent(), age_s=4000)
    snapshot = api.list_participants

    async def join_meanwhile(room: str) -> tuple[Participant, ...]:
        api.participants["old"] = [caller()]
        return await snapshot(room)

    monkeypatch.setattr(api, "list_participants", join_meanwhile)
    report = await cleanup_stale_rooms(api, SETTINGS, confirm_within_s=0)
    assert not report.deleted
    assert {one.snapshot.room.name: one.rule for one in report.kept}["old"] is Rule.PERSON


async def test_force_takes_all_but_the_kept_patterns(api: FakeLivekitApi) -> None:
    api.put("called", caller(), age_s=60)
    api.put("vip-1", caller(), age_s=60)
    report = await cleanup_stale_rooms(api, RoomsSettings(keep=["vip-*"]), force=True)
    assert [one.rule for one in report.deleted] == [Rule.FORCED]
    assert set(api.rooms) == {"vip-1"}


async def test_only_the_named_rooms_are_looked_at(api: FakeLivekitApi) -> None:
    api.put("a", age_s=400)
    api.put("b", age_s=400)
    await cleanup_stale_rooms(api, SETTINGS, names=["a"])
    assert set(api.rooms) == {"b"}


async def test_one_room_that_fails_is_reported_and_stops_no_other(api: FakeLivekitApi) -> None:
    api.put("a", age_s=400)
    api.put("b", age_s=400)
    api.failures["delete_room"] = [VoiceopsError("broken")]
    report = await cleanup_stale_rooms(api, RoomsSettings(concurrency=1))
    assert [(name, error.message) for name, error in report.failed] == [("a", "broken")]
    assert [one.snapshot.room.name for one in report.deleted] == ["b"]


async def test_agents_alone_go_once_two_runs_have_seen_them_alone(
    api: FakeLivekitApi, tmp_path: Path
) -> None:
    memory = ObservationFile(tmp_path / "seen.json")
    room = api.put("stuck", agent(), age_s=4000)
    first = await cleanup_stale_rooms(api, SETTINGS, memory=memory, confirm_within_s=0)
    assert [one.rule for one in first.kept] == [Rule.UNCONFIRMED]
    memory.save(api.url, {room.sid: Observation(alone_since=time.time() - 23)})
    second = await cleanup_stale_rooms(api, SETTINGS, memory=memory, confirm_within_s=0)
    assert [one.rule for one in second.deleted] == [Rule.AGENTS_ALONE]
    assert memory.load(api.url) == {}


async def test_an_inert_agent_is_replaced_before_it_is_removed(api: FakeLivekitApi) -> None:
    inert = agent(attributes={READY_ATTRIBUTE: "0", "lk.agent.name": "front"})
    api.put("refreshed", inert, caller(), age_s=400)
    report = await cleanup_stale_rooms(api, SETTINGS)
    assert [(one.participant.identity, one.rule) for one in report.removed] == [("agent-1", Rule.INERT_AGENT)]
    methods = [method for method, _ in api.calls]
    assert methods.index("create_dispatch") < methods.index("remove_participant")
    assert [one.agent_name for one in api.dispatches["refreshed"]] == ["", "front"]


async def test_a_room_of_a_dead_node_is_moved_without_agents_and_deleted(api: FakeLivekitApi) -> None:
    api.put("orphan", age_s=400)
    api.unserved.add("orphan")
    report = await cleanup_stale_rooms(api, SETTINGS)
    assert [one.snapshot.room.name for one in report.deleted] == ["orphan"]
    assert "orphan" not in api.rooms


async def test_the_move_of_an_orphan_asks_for_an_agent_of_nobody(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put("orphan")
    api.unserved.add("orphan")
    asked: list[object] = []
    create = api.create_room

    async def remember(name: str, **options: Any) -> object:
        asked.append(options["agents"])
        return await create(name, **options)

    monkeypatch.setattr(api, "create_room", remember)
    assert await delete_room(api, "orphan")
    assert asked == [[NOBODY]]


async def test_an_orphan_is_moved_once_its_dead_node_no_longer_counts_as_alive(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(delay_s: float) -> None:
        pauses.append(delay_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    api.put("orphan")
    api.unserved.add("orphan")
    api.failures["create_room"] = [unreachable(), unreachable()]
    assert await delete_room(api, "orphan")
    assert pauses == [2.0, 2.0]
    assert not api.rooms


async def test_a_room_that_an_agent_in_flight_makes_anew_is_deleted_again(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put("forced", age_s=1)
    delete = api.delete_room
    revived: list[str] = []

    async def revive(name: str) -> None:
        await delete(name)
        if not revived:
            revived.append(name)
            ghost = api.put(name)
            late = Participant(identity="agent-9", kind=ParticipantKind.AGENT, joined_at=ghost.created_at)
            api.participants[name] = [late]

    monkeypatch.setattr(api, "delete_room", revive)
    await cleanup_stale_rooms(api, SETTINGS, force=True)
    assert revived == ["forced"]
    assert not api.rooms


async def test_a_room_that_the_server_lists_again_is_deleted_again(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent came while it closed: LiveKit has the closed room again, without anybody in it."""
    api.put("forced", age_s=1)
    (closed,) = await api.list_rooms()
    delete = api.delete_room
    tries: list[str] = []

    async def listed_again(name: str) -> None:
        await delete(name)
        tries.append(name)
        if len(tries) == 1:
            api.rooms[name] = closed

    monkeypatch.setattr(api, "delete_room", listed_again)
    report = await cleanup_stale_rooms(api, SETTINGS, force=True)
    assert [one.snapshot.room.name for one in report.deleted] == ["forced"]
    assert not report.failed
    assert (tries, api.rooms) == (["forced"] * 2, {})


async def test_a_new_call_in_a_room_of_the_same_name_is_left_alone(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put("busy", age_s=1)
    delete = api.delete_room

    async def call_again(name: str) -> None:
        await delete(name)
        api.put(name, caller(), agent(joined_s=0))

    monkeypatch.setattr(api, "delete_room", call_again)
    report = await cleanup_stale_rooms(api, SETTINGS, force=True)
    assert not report.failed
    assert "busy" in api.rooms


async def test_a_room_with_a_person_is_cleaned_only_by_force(api: FakeLivekitApi) -> None:
    api.put("r", caller())
    with pytest.raises(CallsInProgressError) as caught:
        await cleanup_room(api, "r")
    assert caught.value.data["rooms"] == ["r"]
    assert await cleanup_room(api, "r", force=True)
    assert not await cleanup_room(api, "r")


async def test_ensure_clean_tries_again_after_what_may_pass(api: FakeLivekitApi) -> None:
    api.put("r")
    api.failures["list_participants"] = [unreachable(), unreachable()]
    assert await ensure_clean_room(api, "r", backoff_s=0)
    assert not api.rooms


async def test_ensure_clean_gives_up_after_three_tries_2_s_apart(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(delay_s: float) -> None:
        pauses.append(delay_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    api.put("r")
    api.failures["list_participants"] = [unreachable(), unreachable(), unreachable()]
    with pytest.raises(UnreachableError):
        await ensure_clean_room(api, "r")
    assert api.count("list_participants") == 3
    assert pauses == [2.0, 2.0]


async def test_ensure_clean_says_when_a_room_keeps_coming_back(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put("r")
    delete = api.delete_room

    async def come_back(name: str) -> None:
        await delete(name)
        api.put(name)

    monkeypatch.setattr(api, "delete_room", come_back)
    with pytest.raises(RoomsRemainError) as caught:
        await ensure_clean_room(api, "r", backoff_s=0)
    assert caught.value.names == ("r",)
    assert "r" not in caught.value.message.split()
    assert api.count("list_participants") == 3


def test_observations_survive_a_round_trip_per_server_and_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "seen.json"
    memory = ObservationFile(path)
    seen = {"RM_1": Observation(alone_since=1.0, unserved_since=2.0)}
    memory.save("ws://a", seen)
    memory.save("ws://b", {})
    assert memory.load("ws://a") == seen
    assert memory.load("ws://b") == {}
    path.write_text("{")
    assert memory.load("ws://a") == {}
    memory.save("ws://a", seen)
    assert memory.load("ws://a") == seen
    assert [one.name for one in path.parent.iterdir()] == ["seen.json"]


async def test_a_new_room_under_the_name_of_a_judged_one_is_judged_itself(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller made the room anew while cleanup decided, and has not come in yet."""
    api.put("old", age_s=400)
    plan = rules.plan_cleanup

    def made_anew(*arguments: Any, **options: Any) -> Any:
        decided = plan(*arguments, **options)
        api.put("old")
        return decided

    monkeypatch.setattr(cleanup, "plan_cleanup", made_anew)
    report = await cleanup_stale_rooms(api, SETTINGS)
    assert not report.deleted
    assert [(one.snapshot.room.name, one.rule) for one in report.kept] == [("old", Rule.YOUNG)]
    assert api.count("delete_room") == 0


async def test_a_room_that_went_by_itself_meanwhile_is_not_reported(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put("old", age_s=400)
    plan = rules.plan_cleanup

    def gone(*arguments: Any, **options: Any) -> Any:
        decided = plan(*arguments, **options)
        api.rooms.clear()
        return decided

    monkeypatch.setattr(cleanup, "plan_cleanup", gone)
    report = await cleanup_stale_rooms(api, SETTINGS)
    assert not report.changed
    assert api.count("delete_room") == 0


async def test_agents_whom_nobody_joined_go_in_one_run(
    api: FakeLivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "REFRESH_S", 0.05)
    ready = {READY_ATTRIBUTE: "1"}
    two = (agent(identity, joined_s=61, attributes=ready) for identity in ("agent-1", "agent-2"))
    api.put("ghost", *two, departure_timeout_s=0)
    api.dispatches["ghost"].clear()
    report = await cleanup_stale_rooms(api, SETTINGS)
    assert [(one.snapshot.room.name, one.rule) for one in report.deleted] == [("ghost", Rule.NEVER_JOINED)]


async def test_a_room_is_ended_only_under_the_sid_that_was_seen(api: FakeLivekitApi) -> None:
    seen = api.put("r", agent())
    api.put("r", agent())
    assert not await cleanup_room(api, "r", sid=seen.sid)
    assert await cleanup_room(api, "r", sid=api.rooms["r"].sid)
    assert api.rooms == {}
