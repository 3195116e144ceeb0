"""A drain ends the jobs whose rooms hold nobody but agents, and no other."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.api import LiveKitAPI, TwirpError
from livekit.protocol.models import ParticipantInfo

from voiceops.agentkit.unattended import PATIENCE_S, leave_unattended_rooms
from voiceops.agentkit.worker import Worker


class FakeRooms:
    """The room service, as far as a drain uses it; it ends what it is told to."""

    def __init__(self, *participants: ParticipantInfo, exists: bool | None = True) -> None:
        self.participants = list(participants)
        self.exists = exists
        self.deleted: list[str] = []
        self.removed: list[str] = []
        self.told_to_end: list[str] = []

    async def list_participants(self, _request: Any) -> Any:
        return SimpleNamespace(participants=list(self.participants))

    async def list_rooms(self, request: Any) -> Any:
        if self.exists is None:
            raise TwirpError("unavailable", "no answer", status=503)
        return SimpleNamespace(rooms=list(request.names) if self.exists else [])

    async def end_job(self, job: Any) -> None:
        self.told_to_end.append(job.job.id)

    async def delete_room(self, request: Any) -> None:
        self.deleted.append(request.room)
        self.participants.clear()

    async def remove_participant(self, request: Any) -> None:
        self.removed.append(request.identity)
        self.participants = [one for one in self.participants if one.identity != request.identity]


def participant(identity: str, kind: Any) -> ParticipantInfo:
    return ParticipantInfo(identity=identity, kind=kind, state=ParticipantInfo.ACTIVE)


def agent(identity: str) -> ParticipantInfo:
    return participant(identity, ParticipantInfo.AGENT)


async def drain(rooms: FakeRooms, *, seconds: float, empty_timeout: int = 300) -> None:
    """Drain a worker with one job, ``agent-2``, while a clock of our own goes on for ``seconds``."""
    job = SimpleNamespace(
        job=SimpleNamespace(id="AJ_2", room=SimpleNamespace(name="r", empty_timeout=empty_timeout)),
        accept_arguments=SimpleNamespace(identity="agent-2"),
    )
    now = [0.0]
    worker = cast(Worker, SimpleNamespace(jobs=[job], end_job=rooms.end_job))
    api = cast(LiveKitAPI, SimpleNamespace(room=rooms))
    draining = asyncio.create_task(
        leave_unattended_rooms(worker, clock=lambda: now[0], interval_s=0.0, api=api)
    )
    while now[0] < seconds:
        await asyncio.sleep(0)
        now[0] += 0.5
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)


async def test_a_room_with_an_agent_alone_is_deleted_after_20_s() -> None:
    rooms = FakeRooms(agent("agent-2"))
    await drain(rooms, seconds=PATIENCE_S - 5)
    assert (PATIENCE_S, rooms.deleted) == (20.0, [])
    await drain(rooms, seconds=PATIENCE_S + 10)
    assert (rooms.deleted, rooms.removed) == (["r"], [])


async def test_where_another_agent_comes_first_the_room_is_only_left() -> None:
    rooms = FakeRooms(agent("agent-1"), agent("agent-2"))
    await drain(rooms, seconds=PATIENCE_S + 10)
    assert (rooms.deleted, rooms.removed) == ([], ["agent-2"])


@pytest.mark.parametrize(
    "kind",
    [
        ParticipantInfo.STANDARD,
        ParticipantInfo.SIP,
        ParticipantInfo.INGRESS,
        ParticipantInfo.EGRESS,
        ParticipantInfo.CONNECTOR,
        99,
    ],
)
async def test_a_call_is_waited_for_whatever_the_other_participant_is(kind: Any) -> None:
    rooms = FakeRooms(agent("agent-2"), participant("other", kind))
    await drain(rooms, seconds=PATIENCE_S * 3)
    assert (rooms.deleted, rooms.removed) == ([], [])


async def test_a_room_that_was_made_to_wait_is_waited_for() -> None:
    rooms = FakeRooms(agent("agent-2"))
    await drain(rooms, seconds=PATIENCE_S * 3, empty_timeout=3600)
    assert rooms.deleted == []


async def test_a_job_whose_room_is_gone_is_told_to_end_once() -> None:
    rooms = FakeRooms(exists=False)
    await drain(rooms, seconds=PATIENCE_S - 5)
    assert rooms.told_to_end == []
    await drain(rooms, seconds=PATIENCE_S * 3)
    assert (rooms.told_to_end, rooms.deleted, rooms.removed) == (["AJ_2"], [], [])


@pytest.mark.parametrize(
    "rooms",
    [
        FakeRooms(exists=True),  # a server of several nodes may leave participants out
        FakeRooms(exists=None),
        FakeRooms(participant("caller", ParticipantInfo.STANDARD), exists=False),
    ],
)
async def test_an_agent_that_has_not_joined_yet_is_waited_for_while_its_room_may_be_there(
    rooms: FakeRooms,
) -> None:
    await drain(rooms, seconds=PATIENCE_S * 3)
    assert (rooms.told_to_end, rooms.deleted) == ([], [])
