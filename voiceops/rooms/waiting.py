"""Wait until an agent in a room answers the caller, or say why it does not.

The API is polled every 100 ms (a call takes 1 ms). Subscribing would need a participant of our
own in the room: even a hidden one counts for ``num_participants``, makes a missing room, counts
as a user who joined for the room's timeouts, and its connection takes 70 ms, which is more than
polling loses. Who is in the room already learns it at once from the message on ``voiceops.ready``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence

import msgspec

from voiceops.deadline import Deadline
from voiceops.errors import (
    ConfigError,
    CredentialsError,
    DeadlineError,
    NotFoundError,
    RateLimitedError,
    UnreachableError,
    VoiceopsError,
)
from voiceops.model.rooms import Dispatch, JobStatus, Participant
from voiceops.model.settings import RoomsSettings
from voiceops.ports import AgentRoomApi
from voiceops.rooms.dispatch import DispatchResult, dispatch_agent
from voiceops.rooms.presence import AgentPresence, persons, serving
from voiceops.rooms.removal import delete_room

log = logging.getLogger(__name__)

POLL_S = 0.1
WAIT_S = 10.0
WAIT_ENV = "LIVEKIT_AGENT_WAIT_TIMEOUT"
_DISPATCH_POLL_S = 1.0
_ASK_AGAIN_S = 3.0


class AgentNotReadyError(DeadlineError):
    """No agent became ready in time; ``cause`` is the likely one, ``data`` what was seen."""

    def __init__(self, agent_name: str, timeout_s: float, cause: str, seen: Mapping[str, object]) -> None:
        who = f"agent {agent_name!r}" if agent_name else "an agent"
        super().__init__(
            f"waited {timeout_s:g} s for {who}: {cause}",
            hint="`inv why` looks at worker, server and logs too",
            data={"timeout_s": timeout_s, "cause": cause, "seen": dict(seen)},
        )
        self.cause = cause


class ReadyAgent(msgspec.Struct, frozen=True, kw_only=True):
    """The agent that serves the room, and how long that took."""

    participant: Participant
    waited_s: float


def default_wait_s(environ: Mapping[str, str] | None = None) -> float:
    """Ten seconds, or LIVEKIT_AGENT_WAIT_TIMEOUT, which is in milliseconds."""
    text = (os.environ if environ is None else environ).get(WAIT_ENV, "")
    if not text:
        return WAIT_S
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = -1.0
    if not 0 < milliseconds < float("inf"):
        raise ConfigError(
            f"{WAIT_ENV}={text!r} is no number of milliseconds", hint=f"for example {WAIT_ENV}=10000"
        )
    return milliseconds / 1000


def ready_agent(participants: Sequence[Participant], agent_name: str | None) -> Participant | None:
    """The agent that answers; ``agent_name`` None: whichever."""
    for one in participants:
        named = agent_name is None or not one.agent_name or one.agent_name == agent_name
        if one.is_agent and named and serving(one) is AgentPresence.READY:
            return one
    return None


def likely_cause(
    room_exists: bool,
    agent_name: str,
    participants: Sequence[Participant],
    dispatches: Sequence[Dispatch] | None,
) -> str:
    """What keeps the agent away, as far as rooms and dispatches show it."""
    if not room_exists:
        return "the room does not exist (any more)"
    states = {serving(one) for one in participants if one.is_agent}
    if AgentPresence.SILENT in states:
        return "an agent is in the room, but neither listens nor publishes: its entrypoint hangs or has died"
    if AgentPresence.JOINING in states:
        return "an agent has joined, but its media connection does not come up: firewall, or a busy machine"
    if AgentPresence.INERT in states:
        return "the agent in the room has ended its session, as after a caller's refresh: dispatch a new one"
    if dispatches is None:
        return "no node of LiveKit serves the room: it is an orphan; clean it with `inv rooms.ensure-clean`"
    of_name = [one for one in dispatches if one.agent_name == agent_name]
    if not of_name:
        others = sorted({repr(one.agent_name) for one in dispatches})
        asked = f"only {', '.join(others)}" if others else "no agent at all"
        return f"the room asks for {asked}: a worker with an agent_name needs a dispatch of that name"
    jobs = [job for one in of_name for job in one.jobs]
    if not jobs:
        return "no worker has taken the job: none is registered under that name, or it is full or frozen"
    failed = [job.error for job in jobs if job.status is JobStatus.FAILED]
    if failed:
        return f"the job failed: {failed[0] or 'the worker gives no reason'}"
    return "a worker took the job, but no agent came: the entrypoint raised, exited or hangs; see the worker's log"


async def wait_for_agent(
    api: AgentRoomApi,
    room: str,
    agent_name: str | None = None,
    *,
    timeout_s: float | None = None,
    poll_s: float = POLL_S,
) -> ReadyAgent:
    """The agent that is ready to serve the room; returns at once if it is there already.

    Ready means that the agent says so (``voiceops.ready``, or ``lk.agent.state``), or is active
    and publishes audio: no grace sleep is needed afterwards. ``agent_name`` None takes any agent.
    ``timeout_s`` None: ``default_wait_s``. Raises ``AgentNotReadyError`` with what was seen and
    the likely cause. A server that does not answer for a while is waited for too.
    """
    limit_s = default_wait_s() if timeout_s is None else timeout_s
    limit = Deadline(limit_s, "waiting for the agent")
    began = time.monotonic()
    unanswered: VoiceopsError | None = None
    while True:
        pause_s = poll_s
        try:
            participants = await asyncio.wait_for(api.list_participants(room), max(limit.remaining_s, poll_s))
            unanswered = None
            found = ready_agent(participants, agent_name)
            if found is not None:
                return ReadyAgent(participant=found, waited_s=time.monotonic() - began)
        except asyncio.TimeoutError:
            pass  # the deadline below says so
        except VoiceopsError as error:
            if not error.retryable:
                raise
            unanswered = error
            if isinstance(error, RateLimitedError):
                pause_s = max(poll_s, error.retry_after_s or 0.0)
        if limit.expired:
            break
        await asyncio.sleep(min(pause_s, limit.remaining_s))
    if unanswered is not None:
        raise unanswered
    raise await _explain(api, room, agent_name or "", limit_s)


async def _explain(api: AgentRoomApi, room: str, agent_name: str, timeout_s: float) -> AgentNotReadyError:
    dispatches: tuple[Dispatch, ...] | None = None
    exists = bool(await api.list_rooms([room]))
    participants = await api.list_participants(room)
    if exists:
        try:
            dispatches = await asyncio.wait_for(api.list_dispatches(room), _DISPATCH_POLL_S)
        except CredentialsError:
            raise
        except (asyncio.TimeoutError, NotFoundError, UnreachableError):
            dispatches = None
    seen = {
        "room_exists": exists,
        "agents": {one.identity: serving(one).value for one in participants if one.is_agent},
        "others": len(participants) - sum(one.is_agent for one in participants),
        "dispatches": [
            {"id": one.id, "agent_name": one.agent_name, "jobs": [job.status.value for job in one.jobs]}
            for one in dispatches or ()
        ],
    }
    return AgentNotReadyError(
        agent_name, timeout_s, likely_cause(exists, agent_name, participants, dispatches), seen
    )


async def bring_agent(
    api: AgentRoomApi,
    room: str,
    agent_name: str = "",
    *,
    metadata: str = "",
    timeout_s: float | None = None,
    settings: RoomsSettings | None = None,
) -> tuple[DispatchResult, ReadyAgent]:
    """``dispatch_agent`` and ``wait_for_agent`` until the room has its agent.

    Asks again every few seconds, which is idempotent: a server that restarts meanwhile forgets
    room and dispatch. If the agent does not come, the error says why, and a room that this call
    made is gone again unless a person has come into it meanwhile.
    """
    limit = Deadline(default_wait_s() if timeout_s is None else timeout_s, "bringing the agent")
    made_room = False
    first: DispatchResult | None = None
    try:
        while True:
            try:
                dispatched = await dispatch_agent(api, room, agent_name, metadata=metadata)
                made_room = made_room or dispatched.made_room
                if first is None or dispatched.created:
                    first = dispatched
                wait_s = min(_ASK_AGAIN_S, limit.remaining_s)
                ready = await wait_for_agent(api, room, agent_name, timeout_s=wait_s)
                waited_s = limit.timeout_s - limit.remaining_s
                asked = msgspec.structs.replace(first, made_room=made_room)
                return asked, msgspec.structs.replace(ready, waited_s=waited_s)
            except AgentNotReadyError as error:
                if limit.expired:
                    raise AgentNotReadyError(
                        agent_name, limit.timeout_s, error.cause, error.data["seen"]
                    ) from None
            except VoiceopsError as error:
                if not (error.retryable and made_room) or limit.expired:
                    raise
    except BaseException:
        if made_room:
            await _take_back(api, room, settings or RoomsSettings())
        raise


async def _take_back(api: AgentRoomApi, room: str, settings: RoomsSettings) -> None:
    """Delete the room that was made for an agent; what hinders it must not hide why none came."""
    try:
        if not persons(await api.list_participants(room), settings):
            await delete_room(api, room)
    except VoiceopsError as error:
        log.warning("room stays", extra={"error": type(error).__name__, "pii": {"room": room}})
