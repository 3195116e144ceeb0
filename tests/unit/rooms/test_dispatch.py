"""Exactly one agent, however often and by whom it is asked for."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.support.fakes.livekit_api import FakeLivekitApi
from voiceops.errors import ConfigError, CredentialsError, UnreachableError, UsageError, VoiceopsError
from voiceops.model.protocol import READY_ATTRIBUTE
from voiceops.model.rooms import (
    Dispatch,
    Job,
    JobStatus,
    Participant,
    ParticipantKind,
    ParticipantState,
    Room,
    Track,
    TrackKind,
)
from voiceops.rooms import waiting
from voiceops.rooms.dispatch import Decision, dispatch_agent, plan_dispatch, surplus
from voiceops.rooms.presence import AgentPresence, serving
from voiceops.rooms.waiting import (
    AgentNotReadyError,
    bring_agent,
    default_wait_s,
    likely_cause,
    wait_for_agent,
)

NOW = 1_000_000.0
READY = {READY_ATTRIBUTE: "1"}


def agent(identity: str = "agent-AJ_1", *, name: str = "a", **fields: Any) -> Participant:
    attributes = {"lk.agent.name": name} | fields.pop("attributes", {})
    return Participant(identity=identity, kind=ParticipantKind.AGENT, attributes=attributes, **fields)


def dispatch(*jobs: Job, age_s: float = 1.0, name: str = "a", id: str = "AD_1") -> Dispatch:
    return Dispatch(id=id, room="r", agent_name=name, created_at=NOW - age_s, jobs=jobs)


def job(status: JobStatus = JobStatus.RUNNING, *, age_s: float = 1.0) -> Job:
    return Job(id="AJ_1", status=status, participant_identity="agent-AJ_1", started_at=NOW - age_s)


@pytest.mark.parametrize(
    ("participants", "dispatches", "decision"),
    [
        ([], [], Decision.DISPATCH),
        ([], [dispatch()], Decision.ON_THE_WAY),
        ([], [dispatch(age_s=21)], Decision.DISPATCH),
        ([], [dispatch(job(age_s=5), age_s=21)], Decision.ON_THE_WAY),
        ([], [dispatch(job(age_s=21), age_s=21)], Decision.DISPATCH),
        ([], [dispatch(job(JobStatus.FAILED))], Decision.DISPATCH),
        ([], [dispatch(name="other")], Decision.DISPATCH),
        ([agent()], [], Decision.HAS_AGENT),
        ([agent(state=ParticipantState.JOINING)], [dispatch(age_s=30)], Decision.HAS_AGENT),
        ([agent(name="other")], [], Decision.DISPATCH),
        ([agent(name="")], [dispatch(job(age_s=90), age_s=90)], Decision.HAS_AGENT),
        ([agent(attributes={READY_ATTRIBUTE: "0"})], [dispatch(job())], Decision.DISPATCH),
        ([agent(state=ParticipantState.DISCONNECTED)], [], Decision.DISPATCH),
    ],
)
def test_a_dispatch_is_made_only_where_none_can_still_bring_the_agent(
    participants: list[Participant], dispatches: list[Dispatch], decision: Decision
) -> None:
    assert plan_dispatch("a", participants, dispatches, NOW).decision is decision


def test_dispatches_that_brought_nobody_are_withdrawn() -> None:
    lost = [dispatch(age_s=40, id="AD_1"), dispatch(age_s=30, id="AD_2")]
    plan = plan_dispatch("a", [], lost, NOW)
    assert [one.id for one in plan.lost] == ["AD_1", "AD_2"]


def test_of_two_agents_the_one_that_serves_stays_once_it_is_known_who_came_how() -> None:
    serves = agent(attributes=READY, joined_at=NOW - 8)
    survivor = agent("agent-AJ_9", joined_at=NOW - 30)
    plan = plan_dispatch("a", [survivor, serves], [dispatch(job())], NOW)
    assert [one.identity for one in plan.extras] == ["agent-AJ_9"]
    fresh = agent(attributes=READY, joined_at=NOW - 5)
    assert not plan_dispatch("a", [survivor, fresh], [dispatch(job())], NOW).extras
    assert not plan_dispatch("a", [survivor], [dispatch(job())], NOW).extras


def test_of_two_hosts_that_ask_at_once_exactly_one_withdraws() -> None:
    first, second = dispatch(age_s=0.002, id="AD_2"), dispatch(age_s=0.001, id="AD_1")
    both = [second, first]
    assert [surplus(one, both, NOW, 20.0) for one in (first, second)] == [False, True]


async def test_a_missing_room_is_made_with_this_agent_only() -> None:
    api = FakeLivekitApi()
    done = await dispatch_agent(api, "r", "a", metadata="m")
    assert (done.created, done.made_room) == (True, True)
    assert [(one.agent_name, one.metadata) for one in api.dispatches["r"]] == [("a", "m")]


async def test_a_hundred_at_once_make_one_dispatch() -> None:
    api = FakeLivekitApi()
    api.put("r")
    done = await asyncio.gather(*(dispatch_agent(api, "r", "a") for _ in range(100)))
    assert sum(one.created for one in done) == 1
    assert [one.agent_name for one in api.dispatches["r"]] == ["", "a"]


async def test_what_may_pass_is_tried_three_times_more_and_looked_at_anew() -> None:
    api = FakeLivekitApi()
    api.put("r")
    api.failures["list_dispatches"] = [UnreachableError("503", retryable=True) for _ in range(3)]
    assert (await dispatch_agent(api, "r", "a", retry_delays_s=(0, 0, 0))).created
    api.failures["list_rooms"] = [UnreachableError("503", retryable=True) for _ in range(4)]
    with pytest.raises(UnreachableError):
        await dispatch_agent(api, "r", "a", retry_delays_s=(0, 0, 0))


async def test_tries_are_0_2_then_0_4_then_0_8_s_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(delay_s: float) -> None:
        pauses.append(delay_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    api = FakeLivekitApi()
    api.put("r")
    api.failures["list_rooms"] = [UnreachableError("503", retryable=True) for _ in range(4)]
    with pytest.raises(UnreachableError):
        await dispatch_agent(api, "r", "a")
    assert pauses == [0.2, 0.4, 0.8]


@pytest.mark.parametrize("error", [CredentialsError("no"), UsageError("no"), VoiceopsError("no")])
async def test_what_can_t_pass_is_not_tried_again(error: VoiceopsError) -> None:
    api = FakeLivekitApi()
    api.put("r")
    api.failures["create_dispatch"] = [error]
    with pytest.raises(type(error)):
        await dispatch_agent(api, "r", "a")
    assert api.count("create_dispatch") == 1


async def test_a_dispatch_that_worked_but_was_not_answered_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = FakeLivekitApi()
    api.put("r")
    create = api.create_dispatch

    async def lose_the_answer(*arguments: Any) -> Dispatch:
        await create(*arguments)
        raise UnreachableError("connection lost", retryable=True)

    monkeypatch.setattr(api, "create_dispatch", lose_the_answer)
    await dispatch_agent(api, "r", "a", retry_delays_s=(0, 0, 0))
    assert [one.agent_name for one in api.dispatches["r"]] == ["", "a"]


@pytest.mark.parametrize(
    ("one", "state"),
    [
        (agent(attributes=READY), AgentPresence.READY),
        (agent(attributes={READY_ATTRIBUTE: "0", "lk.agent.state": "listening"}), AgentPresence.INERT),
        (agent(attributes={"lk.agent.state": "listening"}), AgentPresence.READY),
        (agent(attributes={"lk.agent.state": "speaking"}), AgentPresence.READY),
        (agent(attributes={"lk.agent.state": "initializing"}), AgentPresence.SILENT),
        (agent(), AgentPresence.SILENT),
        (agent(tracks=(Track(sid="TR", kind=TrackKind.AUDIO),)), AgentPresence.READY),
        (agent(tracks=(Track(sid="TR", kind=TrackKind.VIDEO),)), AgentPresence.SILENT),
        (agent(attributes=READY, state=ParticipantState.JOINED), AgentPresence.JOINING),
        (agent(attributes=READY, state=ParticipantState.DISCONNECTED), AgentPresence.GONE),
    ],
)
def test_ready_is_what_the_agent_says_else_what_it_does(one: Participant, state: AgentPresence) -> None:
    assert serving(one) is state


async def test_waiting_ends_as_soon_as_the_agent_is_ready() -> None:
    api = FakeLivekitApi()
    api.put("r")
    waiting = asyncio.ensure_future(wait_for_agent(api, "r", "a", timeout_s=5, poll_s=0.001))
    await asyncio.sleep(0)
    api.participants["r"] = [agent(attributes=READY)]
    assert (await waiting).participant.identity == "agent-AJ_1"


async def test_waiting_takes_an_agent_of_that_name_only_or_any() -> None:
    api = FakeLivekitApi()
    api.put("r", agent(name="other", attributes=READY))
    assert await wait_for_agent(api, "r", timeout_s=1)
    with pytest.raises(AgentNotReadyError):
        await wait_for_agent(api, "r", "a", timeout_s=0.01, poll_s=0.001)


@pytest.mark.parametrize(
    ("exists", "participants", "dispatches", "words"),
    [
        (False, [], None, "does not exist"),
        (True, [], None, "orphan"),
        (True, [], [dispatch(name="other")], "only 'other'"),
        (True, [], [], "no agent at all"),
        (True, [], [dispatch()], "no worker has taken"),
        (True, [], [dispatch(job())], "raised, exited or hangs"),
        (True, [], [dispatch(job(JobStatus.FAILED))], "failed"),
        (True, [agent()], [dispatch(job())], "neither listens nor publishes"),
        (True, [agent(state=ParticipantState.JOINED)], [dispatch(job())], "media connection"),
        (True, [agent(attributes={READY_ATTRIBUTE: "0"})], [dispatch(job())], "ended its session"),
    ],
)
def test_the_likely_cause_is_named(
    exists: bool, participants: list[Participant], dispatches: list[Dispatch] | None, words: str
) -> None:
    assert words in likely_cause(exists, "a", participants, dispatches)


async def test_an_agent_that_does_not_come_leaves_no_room_that_was_made_for_it() -> None:
    api = FakeLivekitApi()
    with pytest.raises(AgentNotReadyError) as caught:
        await bring_agent(api, "r", "a", timeout_s=0.01)
    assert "r" not in api.rooms
    assert caught.value.data["seen"]["dispatches"][0]["agent_name"] == "a"


async def test_a_room_that_a_restart_of_the_server_forgot_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "_ASK_AGAIN_S", 0.02)
    api = FakeLivekitApi()
    create = api.create_room
    made: list[str] = []

    async def forget_the_first(name: str, **options: Any) -> Room:
        room = await create(name, **options)
        made.append(room.sid)
        if len(made) == 1:
            api.failures["list_participants"] = [UnreachableError("restarting", retryable=True)]
            asyncio.get_running_loop().call_later(0.005, api.rooms.clear)
        else:
            api.participants[name] = [agent(attributes=READY)]
        return room

    monkeypatch.setattr(api, "create_room", forget_the_first)
    _, ready = await bring_agent(api, "r", "a", timeout_s=5)
    assert ready.participant.identity == "agent-AJ_1"
    assert len(made) == 2


async def test_a_room_that_was_there_or_has_a_caller_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeLivekitApi()
    api.put("mine")
    with pytest.raises(AgentNotReadyError):
        await bring_agent(api, "mine", "a", timeout_s=0.01)
    create = api.create_room

    async def call_at_once(name: str, **options: Any) -> Room:
        room = await create(name, **options)
        api.participants[name] = [Participant(identity="caller", joined_at=time.time())]
        return room

    monkeypatch.setattr(api, "create_room", call_at_once)
    with pytest.raises(AgentNotReadyError):
        await bring_agent(api, "called", "a", timeout_s=0.01)
    assert set(api.rooms) == {"mine", "called"}


def test_the_wait_can_be_set_in_milliseconds() -> None:
    assert default_wait_s({}) == 10.0
    assert default_wait_s({"LIVEKIT_AGENT_WAIT_TIMEOUT": "1500"}) == 1.5
    for wrong in ("soon", "-1", "0", "inf", "nan"):
        with pytest.raises(ConfigError):
            default_wait_s({"LIVEKIT_AGENT_WAIT_TIMEOUT": wrong})
