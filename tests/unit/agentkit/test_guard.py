"""A guarded entrypoint ends, says why, and passes on what is not its own.

The room is a fake here: what happens in real rooms is in tests/integration.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from typing import Any

import pytest
from livekit.agents import APITimeoutError, JobContext

from tests.unit.agentkit.fake_job import (
    FakeContext,
    failures,
    forever,
    nothing,
    serve,
)
from voiceops.agentkit import Call, CallEvent, guarded_entrypoint, lifecycle


async def test_data_that_come_too_late_are_replaced_by_the_fallback(events: list[CallEvent]) -> None:
    seen: list[tuple[object, bool]] = []

    @guarded_entrypoint(load=forever, fallback=lambda: "fallback", load_timeout_s=0.01)
    async def entrypoint(ctx: JobContext, call: Call[Any]) -> None:
        seen.append((call.data, call.data_is_fallback))

    await serve(entrypoint, FakeContext())

    assert seen == [("fallback", True)]
    assert failures(events) == [("load", "'no data after 0.01 s'")]


async def test_a_source_that_raises_or_exits_is_replaced_by_the_fallback() -> None:
    seen: list[object] = []

    for error in (ValueError("429"), SystemExit(1)):

        async def load(error: BaseException = error) -> str:
            raise error

        @guarded_entrypoint(load=lambda load=load: load(), fallback="fallback")
        async def entrypoint(ctx: JobContext, call: Call[Any]) -> None:
            seen.append(call.data)

        await serve(entrypoint, FakeContext())

    assert seen == ["fallback", "fallback"]


async def test_loading_and_connecting_run_side_by_side() -> None:
    loading = asyncio.Event()
    connecting = asyncio.Event()

    async def load() -> str:
        loading.set()
        await connecting.wait()
        return "data"

    async def connect() -> None:
        connecting.set()
        await loading.wait()

    seen: list[object] = []

    @guarded_entrypoint(load=load)
    async def entrypoint(ctx: JobContext, call: Call[Any]) -> None:
        seen.append(call.data)

    await serve(entrypoint, FakeContext(connect=connect))

    assert seen == ["data"]


async def test_no_connection_ends_the_job_cleanly_without_running_the_entrypoint(
    events: list[CallEvent],
) -> None:
    @guarded_entrypoint(connect_timeout_s=0.01)
    async def entrypoint(ctx: JobContext) -> None:
        raise AssertionError("must not run")

    context = FakeContext(connect=forever)
    await serve(entrypoint, context)

    assert context.reason == "could not connect"
    assert failures(events) == [("connect", "not in the room after 0.01 s")]
    assert events[-1].step == lifecycle.ENDED


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("no such customer"), "RuntimeError: no such customer"),
        (SystemExit(3), "EntrypointExitedError: sys.exit(3)"),
        (asyncio.CancelledError(), "cancelled from inside"),
    ],
)
async def test_an_entrypoint_that_fails_ends_its_call_and_names_the_phase(
    events: list[CallEvent], error: BaseException, text: str
) -> None:
    @guarded_entrypoint
    async def entrypoint(ctx: JobContext) -> None:
        raise error

    context = FakeContext()
    await serve(entrypoint, context)

    assert failures(events) == [("session", text)]
    assert context.reason is not None
    assert events[-1].details["failed"] is True


async def test_a_session_that_never_listens_is_ended(events: list[CallEvent]) -> None:
    @guarded_entrypoint(session_timeout_s=0.01)
    async def entrypoint(ctx: JobContext) -> None:
        await forever()

    await serve(entrypoint, FakeContext())

    assert failures(events) == [("session", "the session does not listen after 0.01 s")]


@pytest.mark.parametrize(
    ("error", "timed_out"),
    [(TimeoutError("no answer"), True), (APITimeoutError("no answer"), True), (OSError("gone"), None)],
)
async def test_a_failure_says_whether_it_is_a_timeout(
    events: list[CallEvent], error: Exception, timed_out: bool | None
) -> None:
    @guarded_entrypoint
    async def entrypoint(ctx: JobContext) -> None:
        raise error

    await serve(entrypoint, FakeContext())

    (failed,) = (event for event in events if event.step == lifecycle.FAILED)
    assert failed.details.get("timed_out") is timed_out


async def test_an_entrypoint_that_ignores_its_cancellation_is_left_behind_and_named(
    events: list[CallEvent],
) -> None:
    released = asyncio.Event()

    @guarded_entrypoint(cleanup_timeout_s=0.01, session_timeout_s=0.01)
    async def entrypoint(ctx: JobContext) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    await serve(entrypoint, FakeContext())
    released.set()

    named = [
        event for event in events if event.details.get("error") == "the entrypoint ignores its cancellation"
    ]
    assert len(named) == 1
    assert f"{__file__}:" in str(named[0].details["where"]) or "locks.py" in str(named[0].details["where"])


async def test_a_cancellation_from_outside_is_passed_on_and_reaches_the_entrypoint() -> None:
    cancelled: list[bool] = []
    running = asyncio.Event()

    @guarded_entrypoint
    async def entrypoint(ctx: JobContext) -> None:
        running.set()
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    job = asyncio.create_task(serve(entrypoint, FakeContext()))
    await running.wait()
    job.cancel()

    with pytest.raises(asyncio.CancelledError):
        await job
    assert cancelled == [True]


async def test_a_hangup_cancels_the_entrypoint_and_is_no_failure(events: list[CallEvent]) -> None:
    context = FakeContext()

    @guarded_entrypoint
    async def entrypoint(ctx: JobContext) -> None:
        context.handlers["disconnected"]()
        await forever()

    await serve(entrypoint, context)

    assert failures(events) == []
    assert events[-1].details == {"reason": "room closed", "failed": False}


async def test_a_call_ends_at_its_limit() -> None:
    @guarded_entrypoint(call_timeout_s=0.02)
    async def entrypoint(ctx: JobContext, call: Call[Any]) -> None:
        call.ready()
        await forever()

    context = FakeContext()
    await serve(entrypoint, context)

    assert context.reason == "the call reached its limit of 0.02 s"
    assert context.deleted == 1, "nobody is in the room any more"


async def test_cleanup_runs_and_ends_under_its_own_deadline(events: list[CallEvent]) -> None:
    ran: list[str] = []

    @guarded_entrypoint(cleanup_timeout_s=0.02)
    async def entrypoint(ctx: JobContext, call: Call[Any]) -> None:
        async def quick() -> None:
            ran.append("quick")

        call.on_cleanup(quick)
        call.on_cleanup(forever)

    await serve(entrypoint, FakeContext())

    assert ran == ["quick"]
    assert failures(events)[-1] == ("cleanup", "cleanup took longer than 0.02 s")
    assert events[-1].step == lifecycle.ENDED


@guarded_entrypoint(load=nothing)
async def importable(ctx: JobContext) -> None:
    """What a job process gets by its name."""


def test_a_guarded_entrypoint_travels_to_a_job_process() -> None:
    assert pickle.loads(pickle.dumps(importable)) is importable
    assert sys.modules[importable.__module__].importable is importable


def test_an_unknown_option_is_an_error_when_the_agent_is_imported() -> None:
    with pytest.raises(TypeError, match="load_timeout"):
        guarded_entrypoint(load_timeout=3)  # type: ignore[call-overload]
