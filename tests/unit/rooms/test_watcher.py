"""The agent-watcher: one dispatch, once, when it is sure; extras go, the one that serves stays."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.fakes.livekit_api import FakeLivekitApi
from voiceops.errors import UnreachableError
from voiceops.model.protocol import READY_ATTRIBUTE
from voiceops.model.rooms import Dispatch, Job, Participant, ParticipantKind, ParticipantState
from voiceops.model.settings import RoomsSettings
from voiceops.rooms.watcher import AgentWatcher, RoomHistory, WatchPlan, plan_watch

NOW = 1_000_000.0


def caller(*, joined_s: float = 60, **fields: Any) -> Participant:
    return Participant(identity="caller", joined_at=NOW - joined_s, **fields)


def agent(number: int = 1, *, ready: str = "1", joined_s: float = 30) -> Participant:
    return Participant(
        identity=f"agent-{number}",
        kind=ParticipantKind.AGENT,
        joined_at=NOW - joined_s,
        attributes={"lk.agent.name": "a", READY_ATTRIBUTE: ready},
    )


def dispatch(*numbers: int, age_s: float = 60) -> Dispatch:
    jobs = tuple(
        Job(id=f"AJ_{one}", participant_identity=f"agent-{one}", started_at=NOW - age_s) for one in numbers
    )
    return Dispatch(
        id=f"AD_{numbers[0] if numbers else 0}",
        room="r",
        agent_name="a",
        created_at=NOW - age_s,
        jobs=jobs,
    )


def plan(
    participants: list[Participant], *dispatches: Dispatch, seen: RoomHistory | None = None
) -> WatchPlan:
    return plan_watch(participants, dispatches, seen or RoomHistory(), "a", RoomsSettings(), NOW)


def test_a_person_without_an_agent_for_long_gets_one() -> None:
    assert plan([caller()], dispatch(age_s=60)).dispatch


@pytest.mark.parametrize(
    ("joined_s", "asked_s"), [(19, 60), (60, 19)], ids=["young caller", "young dispatch"]
)
def test_a_join_that_is_only_slow_is_not_a_lost_job(joined_s: float, asked_s: float) -> None:
    assert not plan([caller(joined_s=joined_s)], dispatch(age_s=asked_s)).dispatch


def test_an_agent_seen_a_moment_ago_may_be_reconnecting() -> None:
    assert not plan([caller()], dispatch(), seen=RoomHistory(agent_seen_at=NOW - 19)).dispatch
    assert plan([caller()], dispatch(), seen=RoomHistory(agent_seen_at=NOW - 20)).dispatch


def test_each_dispatch_without_an_agent_that_stays_doubles_the_wait_for_the_next() -> None:
    people = [caller(joined_s=1000)]
    assert plan(people, dispatch(age_s=20)).seen.tries == 1
    for tries, wait_s in ((1, 40), (2, 80), (3, 160), (4, 320), (9, 320)):
        seen = RoomHistory(tries=tries)
        assert not plan(people, dispatch(age_s=wait_s - 1), seen=seen).dispatch
        again = plan(people, dispatch(age_s=wait_s), seen=seen)
        assert (bool(again.dispatch), again.seen.tries) == (True, tries + 1)
    back = plan([caller(), agent()], dispatch(1), seen=RoomHistory(tries=2, ready_since=NOW - 19))
    assert back.seen.tries == 2
    stayed = plan([caller(), agent()], dispatch(1), seen=RoomHistory(tries=2, ready_since=NOW - 20))
    assert stayed.seen.tries == 0


def test_nobody_there_needs_no_agent() -> None:
    assert not plan([], dispatch()).dispatch
    assert not plan([Participant(identity="monitor-1", joined_at=1.0)], dispatch()).dispatch
    assert not plan([caller(state=ParticipantState.JOINING)], dispatch()).dispatch


def test_an_inert_agent_is_replaced_at_once() -> None:
    inert = agent(ready="0")
    one = plan([caller(joined_s=1), inert], dispatch(1, age_s=300))
    assert one.dispatch
    assert one.inert == (inert,)


def test_extras_go_only_when_doubled_for_a_while_and_never_the_one_that_serves() -> None:
    both = [caller(), agent(1, joined_s=10), agent(2, joined_s=30, ready="1")]
    first = plan(both, dispatch(1), dispatch(2))
    assert not first.extras
    later = plan(both, dispatch(1), dispatch(2), seen=RoomHistory(doubled_since=NOW - 6))
    assert [one.identity for one in later.extras] == ["agent-1"]
    assert later.withdraw == ("AD_1",)


def test_while_no_agent_is_ready_none_is_extra() -> None:
    silent = [
        Participant(identity=f"agent-{n}", kind=ParticipantKind.AGENT, attributes={"lk.agent.name": "a"})
        for n in (1, 2)
    ]
    one = plan([caller(), *silent], dispatch(1), dispatch(2), seen=RoomHistory(doubled_since=NOW - 60))
    assert not one.extras


def test_several_agents_of_one_dispatch_are_meant_so() -> None:
    both = [caller(), agent(1), agent(2)]
    assert not plan(both, dispatch(1, 2), seen=RoomHistory(doubled_since=NOW - 60)).extras


def test_an_agent_that_lived_through_a_restart_of_the_server_counts_alone() -> None:
    both = [caller(), agent(1, joined_s=10), agent(9, joined_s=12)]
    one = plan(both, dispatch(1), seen=RoomHistory(doubled_since=NOW - 6))
    assert [extra.identity for extra in one.extras] == ["agent-1"]
    assert one.withdraw == ("AD_1",)


async def test_the_watcher_dispatches_once_over_many_passes() -> None:
    api = FakeLivekitApi()
    old = time.time() - 100
    room = api.put("r", Participant(identity="caller", joined_at=old), age_s=100)
    api.dispatches[room.name] = []
    watcher = AgentWatcher(api, agent_name="a")
    reports = [await watcher.check() for _ in range(3)]
    assert [len(report.dispatched) for report in reports] == [1, 0, 0]
    assert [one.agent_name for one in api.dispatches["r"]] == ["a"]


async def test_a_dispatch_that_failed_is_tried_again_in_the_next_pass() -> None:
    api = FakeLivekitApi()
    room = api.put("r", Participant(identity="caller", joined_at=time.time() - 100), age_s=100)
    api.dispatches[room.name] = []
    api.failures["list_participants"] = [UnreachableError("503")]
    watcher = AgentWatcher(api, agent_name="a")
    assert len((await watcher.check()).failed) == 1
    assert len((await watcher.check()).dispatched) == 1


async def test_rooms_of_the_keep_patterns_are_left_alone() -> None:
    api = FakeLivekitApi()
    api.put("vip-1", Participant(identity="caller", joined_at=time.time() - 100), age_s=100)
    watcher = AgentWatcher(api, agent_name="a", settings=RoomsSettings(keep=["vip-*"]))
    assert not (await watcher.check()).dispatched


async def test_of_many_callers_five_get_an_agent_at_once_and_the_others_when_those_have_theirs() -> None:
    api, old = FakeLivekitApi(), time.time() - 100
    for number in range(12):
        api.put(f"r{number}", Participant(identity="caller", joined_at=old), age_s=200 - number)
        api.dispatches[f"r{number}"] = []
    watcher = AgentWatcher(api, agent_name="a")
    first = await watcher.check()
    assert (sorted(room for room, _ in first.dispatched), first.deferred) == (
        [f"r{one}" for one in range(5)],
        7,
    )
    nobody_came = await watcher.check()
    assert (nobody_came.dispatched, nobody_came.deferred) == ((), 7)
    for name, _ in first.dispatched:
        api.participants[name].append(agent())
    second = await watcher.check()
    third = await watcher.check()
    assert len(second.dispatched) + len(third.dispatched) == 5
    assert (second.deferred > 0, third.deferred) == (True, 2)
