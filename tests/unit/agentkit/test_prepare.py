"""Dead agents are removed on evidence only."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from livekit.agents import JobRequest
from livekit.api import LiveKitAPI
from livekit.protocol.models import ParticipantInfo

from voiceops.agentkit.prepare import WORKER_ATTRIBUTE, is_dead, prepare_room, process_mark


def mark_of(pid: int, started: float) -> str:
    return f"{process_mark().split('/')[0]}/{pid}/{started:.2f}"


def test_an_agent_of_a_process_that_is_gone_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    mark = mark_of(process.pid, psutil.Process(process.pid).create_time())
    process.wait(timeout=30)

    assert is_dead(mark, identity="agent-1")


def test_an_agent_of_a_recycled_pid_is_dead() -> None:
    parent = psutil.Process().ppid()

    assert is_dead(mark_of(parent, 1.0), identity="agent-1")


def test_an_agent_of_another_living_worker_is_left_alone() -> None:
    parent = psutil.Process(psutil.Process().ppid())

    assert not is_dead(mark_of(parent.pid, parent.create_time()), identity="agent-1")


@pytest.mark.parametrize("mark", ["", "other-host/1/1.00", "nonsense", "a/b/c"])
def test_without_evidence_an_agent_is_left_alone(mark: str) -> None:
    assert not is_dead(mark, identity="agent-1")


@pytest.mark.parametrize(("live", "dead"), [(["agent-1"], False), ([], True), (None, False)])
def test_an_agent_of_this_worker_is_dead_when_it_has_no_such_job(live: list[str] | None, dead: bool) -> None:
    assert is_dead(process_mark(), identity="agent-1", live=live) is dead


class FakeRooms:
    """The room service, as far as prepare_room uses it."""

    def __init__(self, *participants: ParticipantInfo, delay_s: float = 0.0) -> None:
        self.participants = participants
        self.delay_s = delay_s
        self.removed: list[str] = []
        self.asked = 0

    async def list_participants(self, _request: Any) -> Any:
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        return SimpleNamespace(participants=self.participants)

    async def remove_participant(self, request: Any) -> None:
        self.removed.append(request.identity)


def participant(identity: str, *, agent: bool = True, name: str = "clerk", mark: str = "") -> ParticipantInfo:
    return ParticipantInfo(
        identity=identity,
        kind=ParticipantInfo.Kind.AGENT if agent else ParticipantInfo.Kind.STANDARD,
        attributes={"lk.agent.name": name, WORKER_ATTRIBUTE: mark},
    )


def request(*, age_s: float = 60) -> JobRequest:
    room = SimpleNamespace(name="r", creation_time_ms=int((time.time() - age_s) * 1000))
    return cast(JobRequest, SimpleNamespace(id="AJ_2", agent_name="clerk", room=room))


async def prepare(rooms: FakeRooms, offer: JobRequest, **options: Any) -> list[str]:
    return await prepare_room(offer, api=cast(LiveKitAPI, SimpleNamespace(room=rooms)), **options)


DEAD = mark_of(2**22 - 1, 1.0)


async def test_only_dead_agents_of_the_same_name_are_removed_never_the_caller() -> None:
    rooms = FakeRooms(
        participant("agent-dead", mark=DEAD),
        participant("agent-other-name", name="bookkeeper", mark=DEAD),
        participant("agent-unmarked"),
        participant("caller", agent=False, mark=DEAD),
    )

    assert await prepare(rooms, request()) == ["agent-dead"]
    assert rooms.removed == ["agent-dead"]


async def test_a_server_that_hangs_costs_no_more_than_the_budget() -> None:
    rooms = FakeRooms(participant("agent-dead", mark=DEAD), delay_s=60)

    assert await prepare(rooms, request(), budget_s=0.05) == []


async def test_a_room_that_was_just_made_is_not_looked_at() -> None:
    rooms = FakeRooms()

    assert await prepare(rooms, request(age_s=0)) == []
    assert rooms.asked == 0


async def test_an_error_of_the_server_is_logged_and_does_not_reach_the_accept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = SimpleNamespace(room=SimpleNamespace())

    assert await prepare_room(request(), api=cast(LiveKitAPI, broken)) == []
    assert "the room could not be looked at" in caplog.text
