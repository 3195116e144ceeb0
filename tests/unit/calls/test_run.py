from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.support.fakes.livekit_api import FakeLivekitApi
from tests.support.fakes.phone import FakeCallers, good
from voiceops.calls import call_rooms as desks
from voiceops.calls.call_rooms import LivekitCallRooms
from voiceops.calls.ports import CallerCrashError
from voiceops.calls.run import run_calls
from voiceops.errors import UnreachableError
from voiceops.model.calls import (
    ROOM_PREFIX,
    CallFailure,
    CallJob,
    CallPlan,
    CallResult,
    CallTarget,
    FailureKind,
    Hangup,
)
from voiceops.model.documents.common import DiagnosisEntry
from voiceops.model.rooms import Participant, ParticipantKind
from voiceops.model.secret import Secret

TARGET = CallTarget(url="ws://fake", api_key=Secret("k"), api_secret=Secret("s"))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "RESURRECTION_S", 0.0)


@pytest.fixture
def api() -> FakeLivekitApi:
    return FakeLivekitApi()


@pytest.fixture
def call_rooms(api: FakeLivekitApi) -> LivekitCallRooms:
    return LivekitCallRooms(api, lambda room, identity, ttl_s: f"{room}/{identity}", agent_name="")


def bad(kind: FailureKind, *, connect_s: float | None = 0.1) -> Callable[[CallJob], CallResult]:
    def answer(job: CallJob) -> CallResult:
        failure = CallFailure(kind=kind, detail="as written")
        return CallResult(
            id=job.id, ok=False, room=job.room, identity=job.identity, connect_s=connect_s, failure=failure
        )

    return answer


async def test_as_many_calls_at_once_as_the_plan_says(call_rooms: LivekitCallRooms) -> None:
    callers = FakeCallers()
    report = await run_calls(
        CallPlan(count=20, concurrency=4), TARGET, callers=callers, call_rooms=call_rooms
    )
    assert (report.ok, callers.most_at_once) == (20, 4)
    assert [result.id for result in report.results] == list(range(20))


async def test_each_call_has_a_fresh_room_and_a_redialling_caller_its_old_name(
    call_rooms: LivekitCallRooms,
) -> None:
    callers = FakeCallers()
    await run_calls(CallPlan(count=4, redial=True), TARGET, callers=callers, call_rooms=call_rooms)
    assert len({job.room for job in callers.jobs}) == 4
    assert len({job.identity for job in callers.jobs}) == 1
    callers = FakeCallers()
    await run_calls(CallPlan(count=4), TARGET, callers=callers, call_rooms=call_rooms)
    assert len({job.identity for job in callers.jobs}) == 4


async def test_hangups_are_taken_in_turn(call_rooms: LivekitCallRooms) -> None:
    callers = FakeCallers()
    turn = (Hangup.CLEAN, Hangup.CLEAN, Hangup.ABRUPT)
    await run_calls(CallPlan(count=6, hangups=turn), TARGET, callers=callers, call_rooms=call_rooms)
    assert [job.hangup for job in callers.jobs] == list(turn * 2)


async def test_a_rate_spreads_the_calls_and_a_duration_ends_them(call_rooms: LivekitCallRooms) -> None:
    callers = FakeCallers()
    plan = CallPlan(rate_per_s=50.0, duration_s=0.2, concurrency=3)
    report = await run_calls(plan, TARGET, callers=callers, call_rooms=call_rooms)
    assert 1 <= len(report.results) <= 10
    for result in report.results:
        assert result.started_s >= result.id / 50 - 0.001


async def test_every_room_is_deleted_also_that_of_a_caller_who_vanished(
    api: FakeLivekitApi, call_rooms: LivekitCallRooms
) -> None:
    def answer(job: CallJob) -> CallResult:
        api.put(
            job.room,
            Participant(identity=job.identity),
            Participant(identity="a", kind=ParticipantKind.AGENT),
        )
        return good(job)

    plan = CallPlan(count=4, hangups=(Hangup.CLEAN, Hangup.ABRUPT))
    report = await run_calls(plan, TARGET, callers=FakeCallers(answer), call_rooms=call_rooms)
    assert api.rooms == {}
    assert report.rooms_kept == ()


async def test_a_room_that_somebody_else_entered_is_kept_and_named(
    api: FakeLivekitApi, call_rooms: LivekitCallRooms
) -> None:
    def answer(job: CallJob) -> CallResult:
        api.put(job.room, Participant(identity="a-person"))
        return good(job)

    report = await run_calls(CallPlan(), TARGET, callers=FakeCallers(answer), call_rooms=call_rooms)
    assert list(api.rooms) == list(report.rooms_kept)
    assert len(api.rooms) == 1


async def test_a_given_room_is_never_deleted(api: FakeLivekitApi, call_rooms: LivekitCallRooms) -> None:
    api.put(f"{ROOM_PREFIX}mine")
    target = CallTarget(
        url="ws://fake", api_key=Secret("k"), api_secret=Secret("s"), room=f"{ROOM_PREFIX}mine"
    )
    await run_calls(CallPlan(count=2), target, callers=FakeCallers(), call_rooms=call_rooms)
    assert list(api.rooms) == [f"{ROOM_PREFIX}mine"]


async def test_a_named_agent_is_invited_once_into_a_room_that_exists(api: FakeLivekitApi) -> None:
    call_rooms = LivekitCallRooms(api, lambda *_: "token", agent_name="clerk")
    await call_rooms.invite("not-there-yet")
    assert api.count("create_dispatch") == 0
    api.put("room")
    await call_rooms.invite("room")
    await call_rooms.invite("room")
    assert api.count("create_dispatch") == 1
    assert api.dispatches["room"][-1].agent_name == "clerk"


async def test_a_room_that_a_late_dispatch_brings_back_is_deleted_again(
    api: FakeLivekitApi, call_rooms: LivekitCallRooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(job: CallJob) -> CallResult:
        api.put(job.room)
        result = bad(FailureKind.NO_AGENT)(job)
        asyncio.get_running_loop().call_later(0.01, api.put, job.room)
        return result

    callers = FakeCallers(answer)
    monkeypatch.setattr(desks, "RESURRECTION_S", 0.05)
    await run_calls(CallPlan(), TARGET, callers=callers, call_rooms=call_rooms)
    assert api.rooms == {}


async def test_a_room_that_is_made_anew_after_its_call_goes_at_the_end(
    api: FakeLivekitApi, call_rooms: LivekitCallRooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = api.delete_room
    revived: list[str] = []

    async def meet_it_while_it_closes(name: str) -> None:
        await delete(name)
        if not revived:
            revived.append(name)
            api.put(name, Participant(identity="ghost", kind=ParticipantKind.AGENT))

    def answer(job: CallJob) -> CallResult:
        api.put(job.room, Participant(identity="a", kind=ParticipantKind.AGENT))
        return good(job)

    monkeypatch.setattr(api, "delete_room", meet_it_while_it_closes)
    await run_calls(CallPlan(count=3), TARGET, callers=FakeCallers(answer), call_rooms=call_rooms)
    assert len(revived) == 1
    assert api.rooms == {}


@pytest.mark.parametrize("kind", [FailureKind.NO_AGENT, FailureKind.SILENT, FailureKind.DROPPED])
async def test_a_failed_call_gets_a_verdict(call_rooms: LivekitCallRooms, kind: FailureKind) -> None:
    async def why(room: str) -> DiagnosisEntry:
        return {"ok": True, "findings": [], "problems": [room]}

    callers = FakeCallers(bad(kind))
    report = await run_calls(CallPlan(), TARGET, callers=callers, call_rooms=call_rooms, why=why)
    assert report.results[0].verdict == {"ok": True, "findings": [], "problems": [report.results[0].room]}


async def test_rules_that_can_not_look_do_not_break_the_run(call_rooms: LivekitCallRooms) -> None:
    async def why(room: str) -> None:
        raise UnreachableError("no way in")

    callers = FakeCallers(bad(FailureKind.NO_AGENT))
    report = await run_calls(CallPlan(), TARGET, callers=callers, call_rooms=call_rooms, why=why)
    assert report.results[0].verdict == {"ok": False, "findings": [], "problems": ["no way in"]}


async def test_no_room_is_reported_as_left_where_the_server_never_answered(
    api: FakeLivekitApi, call_rooms: LivekitCallRooms
) -> None:
    api.failures["list_participants"] = [UnreachableError("gone")] * 2
    callers = FakeCallers(bad(FailureKind.NO_CONNECT, connect_s=None))
    report = await run_calls(CallPlan(), TARGET, callers=callers, call_rooms=call_rooms)
    assert report.rooms_kept == ()
    assert report.exit_code == 5


@pytest.mark.parametrize("crashes", [1, 2])
async def test_a_call_whose_process_crashes_is_placed_once_more(
    api: FakeLivekitApi, call_rooms: LivekitCallRooms, crashes: int
) -> None:
    def answer(job: CallJob) -> CallResult:
        api.put(job.room)
        if len(callers.jobs) <= crashes:
            raise CallerCrashError(bad(FailureKind.CALLER)(job))
        return good(job)

    callers = FakeCallers(answer)
    report = await run_calls(CallPlan(), TARGET, callers=callers, call_rooms=call_rooms)
    assert [result.ok for result in report.results] == [crashes == 1]
    assert report.load.crash_count == 1
    assert len({job.room for job in callers.jobs}) == 2
    assert await api.list_rooms() == ()


async def test_calls_that_begin_later_than_the_rate_asks_for_are_told(call_rooms: LivekitCallRooms) -> None:
    def answer(job: CallJob) -> CallResult:
        time.sleep(0.7)
        return good(job)

    plan = CallPlan(count=2, concurrency=1, rate_per_s=100.0)
    report = await run_calls(plan, TARGET, callers=FakeCallers(answer), call_rooms=call_rooms)
    assert "calls began up to" in report.load.detail
