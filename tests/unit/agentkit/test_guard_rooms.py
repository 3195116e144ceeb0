"""When a guarded agent leaves its room, and when it deletes it. The room is a fake here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit.agents import JobContext
from livekit.protocol.models import ParticipantInfo

from tests.unit.agentkit.fake_job import (
    AGENT,
    EGRESS,
    INGRESS,
    STANDARD,
    FakeContext,
    failures,
    serve,
)
from voiceops.agentkit import Call, CallEvent, guarded_entrypoint
from voiceops.agentkit.guard import GuardOptions
from voiceops.model.calls import ROOM_PREFIX
from voiceops.model.protocol import CALL_LOGGER, SYNTHETIC_CALLER_PREFIX


@asynccontextmanager
async def serving(context: FakeContext, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A guarded agent that listens in ``context``'s room until its call is over."""
    listening = asyncio.Event()

    @guarded_entrypoint(**options)
    async def entrypoint(ctx: JobContext, call: Call[Any]) -> None:
        call.ready()
        listening.set()
        # livekit-agents runs the last callbacks when the job is shut down, not when its entrypoint ends.
        while not context.shut_down.is_set():
            try:
                await context.shut_down.wait()
            except asyncio.CancelledError:
                continue

    job = asyncio.create_task(serve(entrypoint, context))
    await listening.wait()
    yield job
    context.shut_down.set()
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


def test_nobody_is_waited_for_60_s() -> None:
    assert GuardOptions().nobody_timeout_s == 60.0


async def test_an_agent_to_whom_nobody_comes_deletes_its_room_and_leaves(events: list[CallEvent]) -> None:
    context = FakeContext()
    async with serving(context, nobody_timeout_s=0.02) as job:
        await job

    assert (context.reason, context.deleted) == ("nobody came", 1)
    assert failures(events) == []


@pytest.mark.parametrize("kind", [STANDARD, INGRESS, EGRESS])
async def test_an_agent_to_whom_somebody_came_does_not_leave(kind: int) -> None:
    context = FakeContext()
    async with serving(context, nobody_timeout_s=0.02) as job:
        context.comes("somebody", kind)
        await asyncio.sleep(0.1)
        assert not job.done()
        assert context.deleted == 0


async def test_an_agent_alone_with_a_hidden_participant_does_not_leave() -> None:
    context = FakeContext()
    context.listed.append(ParticipantInfo(identity="listener", kind=ParticipantInfo.STANDARD))
    async with serving(context, nobody_timeout_s=0.02) as job:
        await asyncio.sleep(0.1)
        assert not job.done()


async def test_in_a_room_that_was_made_to_wait_the_agent_waits_as_long() -> None:
    context = FakeContext(empty_timeout=3600)
    async with serving(context, nobody_timeout_s=0.02) as job:
        await asyncio.sleep(0.1)
        assert not job.done()


async def test_other_agents_are_nobody() -> None:
    context = FakeContext()
    async with serving(context, nobody_timeout_s=0.02) as job:
        context.comes("agent-AJ_2", AGENT)
        await job

    assert context.reason == "nobody came"


async def test_when_the_last_person_left_the_grace_counts_and_not_the_wait_for_the_first() -> None:
    context = FakeContext()
    context.comes("caller")
    async with serving(context, nobody_timeout_s=60, hangup_grace_s=0.02) as job:
        context.leaves("caller")
        await job

    assert (context.reason, context.deleted) == ("caller left", 1)


async def test_of_two_ready_agents_only_the_first_deletes_the_room() -> None:
    deleted = []
    for own, other in (("agent-1", "agent-2"), ("agent-2", "agent-1")):
        context = FakeContext(identity=own)
        context.comes("caller")
        context.comes(other, AGENT, **{"voiceops.ready": "1"})
        async with serving(context, hangup_grace_s=0.01) as job:
            context.leaves("caller")
            await job
        deleted.append(context.deleted)

    assert deleted == [1, 0]


async def test_the_room_of_a_synthetic_call_is_left_to_its_caller() -> None:
    context = FakeContext(room=f"{ROOM_PREFIX}1")
    context.comes("caller")
    async with serving(context, hangup_grace_s=0.01) as job:
        context.leaves("caller")
        await job

    assert (context.reason, context.deleted) == ("caller left", 0)


async def test_the_log_tells_of_callers_but_not_of_synthetic_ones(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, CALL_LOGGER)
    context = FakeContext()
    context.comes(f"{SYNTHETIC_CALLER_PREFIX}1")
    async with serving(context, hangup_grace_s=0.01) as job:
        context.comes("alice")
        for one in (f"{SYNTHETIC_CALLER_PREFIX}1", "alice"):
            context.leaves(one)
        await job

    told = [(one.message, one.caller_sid) for one in caplog.records if hasattr(one, "caller_sid")]
    assert told == [("caller joined", "PA_alice"), ("caller left", "PA_alice")]


async def test_the_room_of_a_synthetic_call_that_nobody_joins_is_deleted() -> None:
    context = FakeContext(room=f"{ROOM_PREFIX}1")
    async with serving(context, nobody_timeout_s=0.01) as job:
        await job

    assert context.deleted == 1


async def test_a_room_with_a_hidden_participant_is_left_and_not_deleted() -> None:
    context = FakeContext()
    context.comes("caller")
    context.listed.append(ParticipantInfo(identity="listener", kind=ParticipantInfo.STANDARD))
    async with serving(context, hangup_grace_s=0.01) as job:
        context.leaves("caller")
        await job

    assert (context.reason, context.deleted) == ("caller left", 0)


async def test_room_cleanup_of_the_only_caller_ends_the_room_at_once() -> None:
    context = FakeContext()
    context.comes("caller")
    async with serving(context) as job:
        context.says("room_cleanup", "caller")
        await job

    assert (context.reason, context.deleted) == ("room_cleanup", 1)


@pytest.mark.parametrize("sender", ["first", None])
async def test_room_cleanup_is_ignored_while_another_person_is_there(sender: str | None) -> None:
    context = FakeContext()
    context.comes("first")
    context.comes("second")
    async with serving(context) as job:
        context.says("room_cleanup", sender)
        if sender is None:
            context.leaves("first")
            context.says("room_cleanup", None)
        await asyncio.sleep(0.05)
        assert not job.done()
        assert context.deleted == 0


async def test_room_cleanup_of_a_caller_who_has_left_alone_ends_the_room() -> None:
    context = FakeContext()
    context.comes("caller")
    async with serving(context) as job:
        context.leaves("caller")
        context.says("room_cleanup", None)
        await job

    assert (context.reason, context.deleted) == ("room_cleanup", 1)
