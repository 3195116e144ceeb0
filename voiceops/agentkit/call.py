"""One call as the agent's code sees it: its data, its session, its end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from voiceops.agentkit import attendance, lifecycle
from voiceops.agentkit.lifecycle import Lifecycle
from voiceops.model.protocol import (
    ALIVE_EVERY_S,
    ALIVE_TOPIC,
    CALLER_JOINED,
    CALLER_LEFT,
    READY_ATTRIBUTE,
    READY_TOPIC,
    ROOM_CLEANUP_TOPIC,
    ROOM_CLOSED,
    SYNTHETIC_CALLER_PREFIX,
)

if TYPE_CHECKING:
    from livekit import rtc
    from livekit.agents import Agent, AgentSession, JobContext

log = logging.getLogger("voiceops.agentkit.calls")

T = TypeVar("T")
Callback = Callable[[], Awaitable[None]]

DELETE_TIMEOUT_S = 2.0
SIGNAL_TIMEOUT_S = 5.0


class Call(Generic[T]):
    """The call that a guarded entrypoint serves.

    ``data`` is what ``load`` returned, or the fallback (``data_is_fallback``). ``start``
    starts an AgentSession with everything around it; ``end`` ends the call.
    """

    def __init__(
        self,
        ctx: JobContext,
        *,
        steps: Lifecycle,
        hangup_grace_s: float,
        nobody_timeout_s: float | None,
        delete_room: bool,
    ) -> None:
        self.ctx = ctx
        self.id = steps.call_id
        self.steps = steps
        self.phase = "connect"
        """What the call is doing: connect, load, session, call, cleanup."""
        self.data: T
        self.data_is_fallback = False
        self.session: AgentSession[object] | None = None
        self.ended: asyncio.Event = asyncio.Event()
        self.listening: asyncio.Event = asyncio.Event()
        self.reason = ""
        self.failed = False
        self._hangup_grace_s = hangup_grace_s
        self._nobody_timeout_s = nobody_timeout_s
        self._delete_room = delete_room
        self._vacant = False
        self._grace: asyncio.TimerHandle | None = None
        """Runs while nobody is there: after the last person left, or until the first one comes."""
        self._tasks: set[asyncio.Task[object]] = set()
        self._on_return: list[Callback] = []
        self._cleanups: list[Callback] = []

    # -- for the agent's code --

    async def start(self, session: AgentSession[Any], agent: Agent, **arguments: Any) -> None:
        """``session.start(agent, room=...)``, and then the ready signal.

        Takes the same arguments. The session stays when the caller disconnects: a caller
        who comes back within the grace (a refreshed page) is linked again; otherwise the
        job ends. (livekit-agents closes the session at once, while the job stays in the
        room: the caller returns to an agent that looks alive and is deaf.)
        """
        from livekit.agents.voice.room_io import RoomOptions

        options = arguments.pop("room_options", None) or RoomOptions()
        options.close_on_disconnect = False
        self.session = session
        session.on("close", self._session_closed)
        session.on("agent_state_changed", self._agent_state_changed)
        await session.start(agent, room=self.ctx.room, room_options=options, **arguments)
        self.steps.emit(lifecycle.SESSION_STARTED)
        self.ready()

    def ready(self) -> None:
        """Tell callers and voiceops that the agent listens. Safe to call twice.

        Sets the attribute ``voiceops.ready`` and sends a message on the topic of that name,
        in the background; from then on a sign of life each second, by which a page notices its death. ``start`` calls it; agents without an AgentSession call it
        themselves, or return from their entrypoint.
        """
        if self.listening.is_set():
            return
        self.listening.set()
        self.phase = "call"
        self.steps.emit(lifecycle.READY)
        self.background(self._signal_ready(), "voiceops_ready")

    def on_return(self, callback: Callback) -> None:
        """Run ``callback`` when a caller is back after all had left: greet again, for example."""
        self._on_return.append(callback)

    def on_cleanup(self, callback: Callback) -> None:
        """Run ``callback`` when the call is over, within the cleanup's deadline."""
        self._cleanups.append(callback)

    async def end(self, reason: str = "ended by the agent") -> None:
        """End the call: the agent leaves, and the room goes if no person is in it.

        The room goes because LiveKit sends no agent to a room that still exists: whoever
        calls again at once would wait there for nobody. Only one deletes it: of several agents
        the first, and in a room of ``inv call`` its caller. Safe to call twice.
        """
        if self.ended.is_set():
            return
        self.reason = reason
        self.ended.set()
        if self._delete_room and not self.persons and not attendance.caller_deletes(self.ctx.room.name):
            await self._drop_room()
        self.ctx.shutdown(reason)

    @property
    def persons(self) -> list[rtc.RemoteParticipant]:
        """Participants that are neither agents nor recorders."""
        return [
            participant
            for participant in self.ctx.room.remote_participants.values()
            if _is_person(participant)
        ]

    # -- for the guard --

    def watch_room(self) -> None:
        """React to people who leave and come back, and to ``room_cleanup``."""
        room = self.ctx.room
        room.on("participant_connected", self._came)
        room.on("participant_disconnected", self._left)
        room.on("data_received", self._message)
        room.on("disconnected", self._disconnected)
        for person in self.persons:
            # Who is there made the room, and with it the offer of this job.
            self._tell_caller(CALLER_JOINED, person, present_s=self.steps.total_s)
        self._await_somebody()

    def fail(self, error: BaseException | str, **details: object) -> None:
        """Log that this phase failed; the call is not over by that."""
        self.failed = True
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        if isinstance(error, BaseException) and _is_timeout(error):
            details["timed_out"] = True
        self.steps.emit(lifecycle.FAILED, level=logging.ERROR, phase=self.phase, error=text, **details)

    def describe(self) -> dict[str, object]:
        """Fields that say which call and what it was doing."""
        return {"call_id": self.id, "phase": self.phase}

    def background(self, work: Awaitable[object], name: str) -> None:
        """Run ``work`` beside the call; ended by ``clean_up``, its errors are logged."""
        task = asyncio.ensure_future(work)
        if isinstance(task, asyncio.Task):
            task.set_name(name)
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def clean_up(self) -> None:
        """Run the callbacks and end what belongs to the call."""
        self.ended.set()
        self.phase = "cleanup"
        self._stop_grace()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        results = await asyncio.gather(*(callback() for callback in self._cleanups), return_exceptions=True)
        for error in results:
            if error is not None:
                self.fail(error)

    def _somebody_there(self) -> bool:
        """Whether a participant that is no agent is there: an ingress or a recorder is not waited out."""
        from livekit.rtc import ParticipantKind

        return any(
            one.kind != ParticipantKind.PARTICIPANT_KIND_AGENT
            for one in self.ctx.room.remote_participants.values()
        )

    def _await_somebody(self) -> None:
        """Leave a room to which nobody comes: LiveKit would keep the agent there for 300 s, a drain longer."""
        if self._nobody_timeout_s is None or self.ended.is_set() or self._somebody_there():
            return
        made_to_wait = self.ctx.job.room.empty_timeout > attendance.DEFAULT_EMPTY_TIMEOUT_S
        timeout_s = max(self._nobody_timeout_s, self.ctx.job.room.empty_timeout if made_to_wait else 0.0)
        self._set_grace(timeout_s, self._nobody_came)

    def _set_grace(self, seconds: float, then: Callback) -> None:
        self._stop_grace()
        loop = asyncio.get_running_loop()
        self._grace = loop.call_later(seconds, lambda: self.background(then(), "voiceops_hangup"))

    def _stop_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    async def _nobody_came(self) -> None:
        present = await attendance.list_participants(self.ctx.api, self.ctx.room.name)
        if self.ended.is_set() or self._somebody_there():
            return
        if present is None or attendance.attended(present):
            self._await_somebody()  # somebody hidden is there, or the server can't say
            return
        self.reason = "nobody came"
        self.ended.set()
        if self._delete_room:
            # Also a room of `inv call`: its caller, who would delete it, has never been in this one.
            await self._drop_room()
        self.ctx.shutdown(self.reason)

    def _came(self, participant: rtc.RemoteParticipant) -> None:
        if self._grace is not None and self._somebody_there() and not self._vacant:
            self._stop_grace()
        if participant not in self.persons:
            return
        self._tell_caller(CALLER_JOINED, participant)
        self._stop_grace()
        self._relink(participant)
        if self._vacant:
            self._vacant = False
            self.steps.emit(lifecycle.RETURNED)
            for callback in self._on_return:
                self.background(callback(), "voiceops_on_return")

    def _left(self, participant: rtc.RemoteParticipant) -> None:
        if _is_person(participant):
            self._tell_caller(CALLER_LEFT, participant)
        others = [person for person in self.persons if person.identity != participant.identity]
        if others:
            self._relink(others[0])
            return
        if self.ended.is_set():
            return
        if not _is_person(participant):
            if not self._vacant:
                self._await_somebody()
            return
        self._vacant = True
        if self.session is not None and self.listening.is_set():
            # Nobody listens; and whoever returns must not hear the end of an old sentence.
            self.background(_interrupt(self.session), "voiceops_interrupt")
        self._set_grace(self._hangup_grace_s, lambda: self.end("caller left"))

    def _tell_caller(self, message: str, person: rtc.RemoteParticipant, *, present_s: float = 0.0) -> None:
        # `inv call` records the calls of its own callers, by what they have heard.
        if not person.identity.startswith(SYNTHETIC_CALLER_PREFIX):
            self.steps.caller(message, person.sid, present_s=present_s)

    def _relink(self, participant: rtc.RemoteParticipant) -> None:
        """Point the session at ``participant`` if nobody whom it listens to is there any more."""
        if self.session is None or not self.listening.is_set():
            return
        room_io = self.session.room_io
        linked = room_io.linked_participant
        if linked is None or linked.identity not in {person.identity for person in self.persons}:
            room_io.set_participant(participant.identity)

    def _message(self, packet: rtc.DataPacket) -> None:
        if packet.topic != ROOM_CLEANUP_TOPIC:
            return
        # Nobody where the sender has left before its message came: whoever is there is another caller.
        sender = packet.participant.identity if packet.participant is not None else ""
        if any(person.identity != sender for person in self.persons):
            log.info("room_cleanup ignored, others are still there", extra=self.describe())
            return
        self.background(self._clean_room(sender), "voiceops_room_cleanup")

    async def _clean_room(self, sender: str) -> None:
        if self.ended.is_set():
            return
        self.reason = "room_cleanup"
        self.ended.set()
        await self._drop_room(leaving=sender)
        self.ctx.shutdown(self.reason)

    async def _drop_room(self, leaving: str = "") -> None:
        """Delete the room, unless another agent does or the server lists a person other than ``leaving``."""
        room = self.ctx.room
        if not attendance.deletes_room(room.local_participant.identity, room.remote_participants.values()):
            return
        present = await attendance.list_participants(self.ctx.api, room.name)
        if present is None or attendance.called(present, leaving=(leaving,)):
            return
        deleting = self.ctx.delete_room()
        await asyncio.wait({deleting}, timeout=DELETE_TIMEOUT_S)

    def _disconnected(self, _reason: object = None) -> None:
        if not self.ended.is_set():
            self.reason = ROOM_CLOSED
            self.ended.set()

    def _session_closed(self, event: Any) -> None:
        reason = str(getattr(event.reason, "value", event.reason))
        if self.ended.is_set() or reason == "job_shutdown":
            return
        if event.error is not None:
            self.fail(str(getattr(event.error, "error", event.error)))
        # A job without a session is deaf, yet looks like an agent to everybody outside.
        self.background(self.end(f"session closed: {reason}"), "voiceops_session_closed")

    def _agent_state_changed(self, event: Any) -> None:
        if event.new_state == "speaking" and not self.steps.seen(lifecycle.ANSWERED):
            self.steps.emit(lifecycle.ANSWERED)

    async def _signal_ready(self) -> None:
        participant = self.ctx.room.local_participant
        message = json.dumps({"ready": True, "call_id": self.id})

        async def signal() -> None:
            await participant.set_attributes({READY_ATTRIBUTE: "1"})
            await participant.publish_data(message, reliable=True, topic=READY_TOPIC)

        try:
            await asyncio.wait_for(signal(), SIGNAL_TIMEOUT_S)
        except Exception:
            log.warning("the ready signal could not be sent", exc_info=True, extra=self.describe())
        await self._say_that_it_lives()

    async def _say_that_it_lives(self) -> None:
        participant = self.ctx.room.local_participant
        while not self.ended.is_set():
            sending = participant.publish_data(b"", reliable=False, topic=ALIVE_TOPIC)
            try:
                await asyncio.wait_for(sending, SIGNAL_TIMEOUT_S)
            except Exception:
                # A page waits for several; while the connection is away none can be sent.
                log.debug("a sign of life could not be sent", exc_info=True, extra=self.describe())
            await asyncio.sleep(ALIVE_EVERY_S)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


def _is_timeout(error: BaseException) -> bool:
    # httpx and livekit have classes of their own, which derive from neither.
    builtin = isinstance(error, (TimeoutError, asyncio.TimeoutError))
    return builtin or any("Timeout" in kind.__name__ for kind in type(error).__mro__)


async def _interrupt(session: AgentSession[object]) -> None:
    await session.interrupt(force=True)


def _is_person(participant: rtc.RemoteParticipant) -> bool:
    """Whether it is neither an agent nor a recorder."""
    from livekit.agents.job import DEFAULT_PARTICIPANT_KINDS

    return participant.kind in DEFAULT_PARTICIPANT_KINDS
