"""A guarded entrypoint ends, says why, and passes on what is not its own.

The room is a fake here: what happens in real rooms is in tests/integration.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import JobContext
from livekit.protocol.models import ParticipantInfo

from voiceops.agentkit import Call, CallEvent, guarded_entrypoint, lifecycle, subscribe
from voiceops.agentkit.guard import GuardOptions
from voiceops.model.calls import ROOM_PREFIX

STANDARD = int(rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD)
AGENT = int(rtc.ParticipantKind.PARTICIPANT_KIND_AGENT)
INGRESS = int(rtc.ParticipantKind.PARTICIPANT_KIND_INGRESS)
EGRESS = int(rtc.ParticipantKind.PARTICIPANT_KIND_EGRESS)


class FakeContext:
    """A job context whose room does what the test says."""

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[None]] | None = None,
        room: str = "r",
        identity: str = "agent-AJ_1",
        empty_timeout: int = 300,
    ) -> None:
        self.job = SimpleNamespace(id="AJ_1", room=SimpleNamespace(name=room, empty_timeout=empty_timeout))
        self._info = SimpleNamespace(received_at=0.0)
        self.reason: str | None = None
        self.shut_down = asyncio.Event()
        self.handlers: dict[str, Callable[..., None]] = {}
        self.on_shutdown: list[Callable[[str], Awaitable[None]]] = []
        self.deleted = 0
        self.room = SimpleNamespace(
            name=room,
            remote_participants={},
            on=self.handlers.__setitem__,
            local_participant=SimpleNamespace(
                identity=identity, set_attributes=_nothing, publish_data=_nothing
            ),
        )
        self.listed: list[ParticipantInfo] = []
        """Whom the server lists, hidden ones too."""
        self.api = SimpleNamespace(room=SimpleNamespace(list_participants=self._list_participants))
        self._connect = connect or _nothing

    async def _list_participants(self, request: Any) -> Any:
        assert request.room == self.room.name
        return SimpleNamespace(participants=self.listed)

    def comes(self, identity: str, kind: int = STANDARD, **attributes: str) -> None:
        """A participant joins."""
        participant = SimpleNamespace(identity=identity, kind=kind, attributes=attributes)
        self.room.remote_participants[identity] = participant
        self.listed.append(ParticipantInfo(identity=identity, kind=cast(Any, kind), attributes=attributes))
        if "participant_connected" in self.handlers:
            self.handlers["participant_connected"](participant)

    def leaves(self, identity: str) -> None:
        """A participant leaves."""
        participant = self.room.remote_participants.pop(identity)
        self.listed = [one for one in self.listed if one.identity != identity]
        self.handlers["participant_disconnected"](participant)

    def says(self, topic: str, sender: str | None) -> None:
        """A data message arrives; ``sender`` None: from nobody who is in the room."""
        participant = None if sender is None else self.room.remote_participants[sender]
        self.handlers["data_received"](SimpleNamespace(topic=topic, participant=participant))

    async def connect(self) -> None:
        await self._connect()

    def shutdown(self, reason: str) -> None:
        self.reason = reason
        self.shut_down.set()

    def add_shutdown_callback(self, callback: Callable[[str], Awaitable[None]]) -> None:
        self.on_shutdown.append(callback)

    def delete_room(self) -> asyncio.Future[None]:
        self.deleted += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


async def _nothing(*_: object, **__: object) -> None:
    return None


async def _forever() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def events() -> Iterator[list[CallEvent]]:
    seen: list[CallEvent] = []
    unsubscribe = subscribe(seen.append)
    yield seen
    unsubscribe()


async def serve(entrypoint: Any, context: FakeContext) -> None:
    """One job from the entrypoint to its last shutdown callback."""
    try:
        await entrypoint(cast(JobContext, context))
    finally:
        for callback in context.on_shutdown:
            await callback(context.reason or "")


def failures(events: list[CallEvent]) -> list[tuple[str, str]]:
    return [
        (str(event.details["phase"]), str(event.details["error"]))
        for event in events
        if event.step == lifecycle.FAILED
    ]


async def test_data_that_come_too_late_are_replaced_by_the_fallback(events: list[CallEvent]) -> None:
    seen: list[tuple[object, bool]] = []

    @guarded_entrypoint(load=_forever, fallback=lambda: "fallback", load_timeout_s=0.01)
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

    context = FakeContext(connect=_forever)
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
        await _forever()

    await serve(entrypoint, FakeContext())

    assert failures(events) == [("session", "the session does not listen after 0.01 s")]


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
            await _forever()
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
        await _forever()

    await serve(entrypoint, context)

    assert failures(events) == []
    assert events[-1].details == {"reason": "room closed", "failed": False}


async def test_a_call_ends_at_its_limit() -> None:
    @guarded_entrypoint(call_timeout_s=0.02)
    async def entrypoint(ctx: JobContext, call: Call[Any]) -> None:
        call.ready()
        await _forever()

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
        call.on_cleanup(_forever)

    await serve(entrypoint, FakeContext())

    assert ran == ["quick"]
    assert failures(events)[-1] == ("cleanup", "cleanup took longer than 0.02 s")
    assert events[-1].step == lifecycle.ENDED


@guarded_entrypoint(load=_nothing)
async def importable(ctx: JobContext) -> None:
    """What a job process gets by its name."""


def test_a_guarded_entrypoint_travels_to_a_job_process() -> None:
    assert pickle.loads(pickle.dumps(importable)) is importable
    assert sys.modules[importable.__module__].importable is importable


def test_an_unknown_option_is_an_error_when_the_agent_is_imported() -> None:
    with pytest.raises(TypeError, match="load_timeout"):
        guarded_entrypoint(load_timeout=3)  # type: ignore[call-overload]


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
