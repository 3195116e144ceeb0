"""The rooms of a monitor: what is looked at, and what is done, on the fake of LiveKit's API."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from tests.support.fakes.livekit_api import FakeLivekitApi
from voiceops.errors import UnreachableError
from voiceops.model.rooms import Job, Participant, ParticipantKind
from voiceops.model.settings import RoomsSettings
from voiceops.monitor.rooms import CLEAN_EVERY_S, WAITING_LOOK_S, RoomKeeper
from voiceops.rooms.dispatch import LOST_AFTER_S
from voiceops.rooms.watcher import LostWorkers

NOW = time.time()


def agent(joined_at: float) -> Participant:
    return Participant(
        identity="agent-1",
        sid="PA_1",
        kind=ParticipantKind.AGENT,
        joined_at=joined_at,
        attributes={"voiceops.ready": "1"},
    )


def caller(joined_at: float) -> Participant:
    return Participant(identity="caller", sid="PA_0", joined_at=joined_at)


class Kept:
    """A keeper with its server, its clock and what it said."""

    def __init__(self, folder: Path) -> None:
        self.api = FakeLivekitApi()
        self.now = 0.0
        self.said: list[tuple[str, str, str]] = []
        self.keeper = RoomKeeper(
            self.api,
            settings=RoomsSettings(),
            agent_names=("",),
            memory=folder / "seen.json",
            say=lambda action, room, reason, error="": self.said.append((action, room, error)),
            clock=lambda: self.now,
        )

    async def check(self) -> None:
        await self.keeper.list()
        await self.keeper.look_after()
        await self.keeper.clean()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


async def test_of_a_thousand_calls_in_which_nothing_changes_a_tenth_is_looked_at(kept: Kept) -> None:
    for number in range(1000):
        kept.api.put(f"r{number}", caller(NOW - 100), agent(NOW - 99), age_s=100, num_participants=1)
    await kept.check()
    assert kept.api.count("list_participants") == 1000
    kept.api.calls.clear()
    await kept.check()
    assert kept.api.count("list_participants") == 100
    for _ in range(9):
        await kept.check()
    looked = {room for method, room in kept.api.calls if method == "list_participants"}
    assert len(looked) == 1000, "each room has its turn"
    assert kept.said == []


async def test_a_room_whose_numbers_change_is_looked_at_at_once(kept: Kept) -> None:
    for number in range(20):
        kept.api.put(f"r{number}", caller(NOW - 100), agent(NOW - 99), age_s=100, num_participants=1)
    await kept.check()
    kept.api.calls.clear()
    kept.api.rooms["r19"] = kept.api.put("r19", caller(NOW - 100), age_s=100, num_participants=2)
    await kept.check()
    assert ("list_participants", "r19") in kept.api.calls


async def test_who_waits_is_looked_at_soon_again_and_counts_as_stuck_after_what_a_join_takes(
    kept: Kept,
) -> None:
    kept.api.put("waits", caller(NOW), age_s=0, num_participants=1)
    kept.api.put("call", caller(NOW), agent(NOW), age_s=0, num_participants=1)
    seen = []
    for _ in range(4):
        await kept.check()
        seen.append((kept.keeper.look_again_s(), kept.keeper.counts().stuck))
        kept.now += LOST_AFTER_S
    assert seen == [(WAITING_LOOK_S, 0), (WAITING_LOOK_S, 1), (WAITING_LOOK_S, 1), (None, 1)]
    kept.api.put("waits", caller(NOW), agent(NOW), age_s=0, num_participants=1)
    await kept.check()
    assert (kept.keeper.look_again_s(), kept.keeper.counts().stuck) == (None, 0)


async def test_the_cleanup_does_not_look_into_empty_rooms_that_are_too_young_to_go(kept: Kept) -> None:
    for number in range(100):
        kept.api.put(f"r{number}", age_s=10)
    await kept.check()
    kept.api.calls.clear()
    kept.now += CLEAN_EVERY_S
    await kept.check()
    assert kept.api.count("list_participants") == 10, "those whose turn it is"


async def test_who_waited_while_no_worker_was_there_gets_an_agent_without_the_usual_patience(
    kept: Kept,
) -> None:
    now = time.time()
    kept.api.put("waits", caller(now - 5), age_s=5)
    kept.api.put("orphaned", caller(now - 50), agent(now - 49), age_s=50)
    kept.api.put("served", caller(now - 50), agent(now - 49), age_s=50)
    for name, found in kept.api.dispatches.items():
        made_at = kept.api.rooms[name].created_at
        jobs = (Job(id="AJ_1", participant_identity="agent-1", worker_id="AW_dead"),)
        kept.api.dispatches[name] = [
            msgspec.structs.replace(one, created_at=made_at, jobs=jobs if name != "waits" else ())
            for one in found
        ]
    await kept.keeper.list()
    lost = LostWorkers(until=now - 1, workers=frozenset({"AW_dead"}), claimed=frozenset({"served"}))
    for _ in range(3):
        await kept.keeper.look_after(everywhere=True, lost=lost)
    done = sorted((action, room) for action, room, _ in kept.said)
    assert done == [("dispatch", "orphaned"), ("dispatch", "waits"), ("remove", "orphaned")]


async def test_an_agent_of_a_worker_that_nobody_knows_to_be_dead_stays(kept: Kept) -> None:
    room = kept.api.put("other", caller(NOW - 50), agent(NOW - 49), age_s=50)
    jobs = (Job(id="AJ_1", participant_identity="agent-1", worker_id="AW_of_another_checkout"),)
    kept.api.dispatches[room.name] = [
        msgspec.structs.replace(one, created_at=room.created_at, jobs=jobs)
        for one in kept.api.dispatches[room.name]
    ]
    await kept.keeper.list()
    await kept.keeper.look_after(
        everywhere=True, lost=LostWorkers(until=NOW - 1, workers=frozenset({"AW_dead"}))
    )
    assert kept.said == []


async def test_a_caller_who_came_after_the_worker_was_back_is_left_to_it(kept: Kept) -> None:
    kept.api.put("new", caller(NOW), age_s=0)
    await kept.keeper.list()
    await kept.keeper.look_after(everywhere=True, lost=LostWorkers(until=NOW - 1))
    assert kept.said == []


async def test_who_came_just_when_the_worker_did_gets_an_agent_unless_a_job_is_listed_or_claimed(
    kept: Kept,
) -> None:
    now = time.time()
    for name in ("lost", "assigned", "claimed"):
        kept.api.put(name, caller(now - 5), age_s=5)
        (dispatch,) = kept.api.dispatches[name]
        job = Job(id="AJ_1", participant_identity="agent-1", worker_id="AW_1", started_at=now - 5)
        kept.api.dispatches[name] = [
            msgspec.structs.replace(dispatch, created_at=now - 5, jobs=(job,) if name == "assigned" else ())
        ]
    await kept.keeper.list()
    for unassigned_until, done in ((0.0, []), (now + 1, [("dispatch", "lost", "")])):
        lost = LostWorkers(until=now - 15, claimed=frozenset({"claimed"}), unassigned_until=unassigned_until)
        await kept.keeper.look_after(everywhere=True, lost=lost)
        assert kept.said == done


async def test_a_room_with_a_person_is_never_deleted_and_an_empty_one_is(kept: Kept) -> None:
    kept.api.put("call", caller(NOW - 9000), agent(NOW - 9000), age_s=9000, num_participants=1)
    kept.api.put("alone", caller(NOW - 9000), age_s=9000, num_participants=0)
    kept.api.put("empty", age_s=9000)
    kept.api.dispatches["alone"] = []
    for _ in range(25):
        kept.now += CLEAN_EVERY_S
        await kept.check()
    assert ("delete-room", "empty", "") in kept.said
    assert set(kept.api.rooms) == {"call", "alone"}


async def test_a_server_that_does_not_answer_changes_nothing(kept: Kept) -> None:
    kept.api.put("empty", age_s=9000)
    kept.now += CLEAN_EVERY_S
    kept.api.failures["list_rooms"] = [UnreachableError("503")]
    with pytest.raises(UnreachableError):
        await kept.check()
    assert kept.said == []
    assert set(kept.api.rooms) == {"empty"}


async def test_doubtful_are_rooms_of_those_who_wait_agents_that_are_not_ready_and_a_few_new_calls(
    kept: Kept,
) -> None:
    silent = msgspec.structs.replace(agent(NOW - 99), attributes={})
    kept.api.put("unseen", caller(NOW - 5), num_participants=1)
    assert await kept.keeper.list()
    assert [room.name for room in kept.keeper.doubtful()] == ["unseen"]
    kept.api.put("waits", caller(NOW - 5), num_participants=1)
    kept.api.put("silent", caller(NOW - 100), silent, age_s=100, num_participants=1)
    kept.api.put("empty", age_s=10)
    for number in range(30):
        kept.api.put(f"r{number}", caller(NOW - 50), agent(NOW - 49), age_s=100 - number, num_participants=1)
    await kept.check()
    found = {room.name for room in kept.keeper.doubtful()}
    assert found == {"unseen", "waits", "silent", *(f"r{number}" for number in range(25, 30))}
