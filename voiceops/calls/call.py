"""One synthetic call: dial, wait for the agent, hear it, perhaps talk to it, hang up.

``converse`` acts; ``judge`` says why a call is no good and is pure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from voiceops.calls.ports import Inquiry, Phone
from voiceops.calls.quality import QualityMeter
from voiceops.deadline import deadline
from voiceops.errors import CredentialsError, DeadlineError, UnreachableError, VoiceopsError
from voiceops.model.calls import (
    AgentChange,
    AgentJoined,
    AgentLeft,
    AgentReady,
    CallFailure,
    CallJob,
    CallResult,
    Disconnected,
    FailureKind,
    Hangup,
    LineMeasured,
    PauseEnded,
    PhoneEvent,
    TrackSeen,
    VoiceStarted,
    VoiceStopped,
)

MID_GREETING_S = 0.2
"""How far into the greeting a mid-greeting caller leaves."""
INQUIRY_S = 10.0
"""How long a failed caller stays on the line for the ``why`` rules."""
GREETING_S = 60.0
"""A greeting longer than that is not waited out before the script."""
HANG_UP_S = 15.0

Clock = Callable[[], float]


@dataclass(slots=True)
class CallProgress:
    """What one call has seen so far; times are seconds since dialling."""

    started_at: float
    connect_s: float | None = None
    agent_s: float | None = None
    ready_s: float | None = None
    track_s: float | None = None
    audio_s: float | None = None
    answer_s: float | None = None
    agent: str = ""
    rms: int | None = None
    peak: int | None = None
    speaking: bool = False
    agents: set[str] = field(default_factory=set)
    agent_left_s: float | None = None
    cut: str = ""
    line: QualityMeter = field(default_factory=QualityMeter)
    max_pause_s: float = 0.0
    max_pause_at_s: float = 0.0
    changes: list[AgentChange] = field(default_factory=list)

    def take(self, event: PhoneEvent) -> None:
        """Note one event; the first of its kind counts."""
        at = event.at - self.started_at
        if isinstance(event, (AgentJoined, AgentLeft)) and self.audio_s is not None:
            change = "joined" if isinstance(event, AgentJoined) else "left"
            self.changes.append(AgentChange(at_s=round(at, 4), change=change, agent=event.identity))
        if isinstance(event, LineMeasured):
            self.line.take(event, at)
        elif isinstance(event, PauseEnded):
            self.max_pause_s, self.max_pause_at_s = event.pause_s, at - event.pause_s
        elif isinstance(event, AgentJoined):
            self.agents.add(event.identity)
            if self.agent_s is None:
                self.agent_s, self.agent = at, event.identity
            self.agent_left_s = None
        elif isinstance(event, AgentReady):
            self.ready_s = at if self.ready_s is None else self.ready_s
        elif isinstance(event, TrackSeen):
            self.track_s = at if self.track_s is None else self.track_s
        elif isinstance(event, VoiceStarted):
            self.speaking = True
            if self.audio_s is None:
                self.audio_s, self.rms, self.peak = at, event.rms, event.peak
        elif isinstance(event, VoiceStopped):
            self.speaking = False
        elif isinstance(event, AgentLeft):
            self.agents.discard(event.identity)
            self.agent_left_s = at if not self.agents else None
        elif isinstance(event, Disconnected):
            self.cut = event.reason

    @property
    def lines(self) -> tuple[str, ...]:
        """The same for people, in the order of a call."""
        steps = (
            (self.connect_s, "connected"),
            (self.agent_s, "agent joined"),
            (self.ready_s, "agent said it is ready"),
            (self.track_s, "agent's audio track arrived"),
            (self.audio_s, "agent heard"),
            (self.agent_left_s, "agent left"),
        )
        seen = tuple(f"{what} after {at:.2f} s" for at, what in steps if at is not None)
        return (*seen, f"disconnected by the server: {self.cut}") if self.cut else seen


class _CallOverError(Exception):
    """The other side ended the call."""


async def converse(
    phone: Phone, job: CallJob, *, inquire: Inquiry | None = None, clock: Clock = time.monotonic
) -> CallResult:
    """Carry out one call and say how it went; only a cancellation is raised.

    An abrupt hang-up is left to the caller of this function, because it means the death
    of this very process.
    """
    seen = CallProgress(started_at=clock())
    failure: CallFailure | None = None
    try:
        try:
            await _until_heard(phone, job, seen, clock)
            await _afterwards(phone, job, seen, clock)
        except (_CallOverError, VoiceopsError) as error:
            failure = judge(seen, error, job)
        failure = failure or judge_quality(seen, job)
        result = _result(job, seen, failure, clock)
        if failure is not None and inquire is not None:
            await _ask(inquire, result)
    except BaseException:
        await asyncio.shield(phone.hang_up())
        raise
    if job.hangup is not Hangup.ABRUPT or failure is not None:
        try:
            async with deadline(HANG_UP_S, "hanging up"):
                await phone.hang_up()
        except DeadlineError as error:
            if result.ok:
                stuck = CallFailure(kind=FailureKind.CALLER, detail=error.message, seen=seen.lines)
                result = _result(job, seen, stuck, clock)
    return result


async def _ask(inquire: Inquiry, result: CallResult) -> None:
    try:
        async with deadline(INQUIRY_S, "asking why the call failed"):
            await inquire(result)
    except DeadlineError:
        # The verdict is missing then, and the report shows that; the call ends all the same.
        return


async def _until_heard(phone: Phone, job: CallJob, seen: CallProgress, clock: Clock) -> None:
    """Everything up to the agent's first sound, dialling included: without ICE it never returns."""
    async with deadline(job.timeout_s, "the call"):
        await phone.dial(job.url, job.token)
        seen.connect_s = clock() - seen.started_at
        microphone = asyncio.ensure_future(phone.open_microphone())
        try:
            while seen.audio_s is None:
                await _step(phone, seen)
            await microphone
        finally:
            if not microphone.done():
                microphone.cancel()
                await asyncio.wait({microphone})


async def _afterwards(phone: Phone, job: CallJob, seen: CallProgress, clock: Clock) -> None:
    if job.hangup is Hangup.MID_GREETING:
        await _stay(phone, MID_GREETING_S, seen)
        return
    if job.script:
        await _talk(phone, job, seen)
    await _stay(phone, job.hold_s, seen)


async def _talk(phone: Phone, job: CallJob, seen: CallProgress) -> None:
    """Wait the greeting out, say the script, wait for an answer."""
    try:
        async with deadline(GREETING_S, "the greeting"):
            while seen.speaking:
                await _step(phone, seen)
    except DeadlineError:
        # An agent that never pauses: speak over it, as a caller would.
        pass
    ended_at = await phone.say(job.script)
    try:
        async with deadline(job.timeout_s, "the answer"):
            while seen.answer_s is None:
                event = await _step(phone, seen)
                if isinstance(event, VoiceStarted) and event.at >= ended_at:
                    seen.answer_s = event.at - ended_at
                elif isinstance(event, VoiceStopped) and event.at > ended_at:
                    seen.answer_s = 0.0  # it spoke over the caller's last word
    except DeadlineError:
        if not seen.speaking:
            raise
        seen.answer_s = 0.0


async def _stay(phone: Phone, seconds: float, seen: CallProgress) -> None:
    """Stay on the line; whatever ends the call before is a drop."""
    if seconds <= 0:
        return
    try:
        async with deadline(seconds, "staying on the line"):
            while True:
                await _step(phone, seen)
    except DeadlineError:
        return


async def _step(phone: Phone, seen: CallProgress) -> PhoneEvent:
    event = await phone.next_event()
    seen.take(event)
    if seen.cut or (seen.audio_s is not None and seen.agent_left_s is not None):
        raise _CallOverError
    return event


def judge(seen: CallProgress, error: Exception, job: CallJob) -> CallFailure:
    """Name the first thing that a good call would have had and this one did not."""
    if isinstance(error, CredentialsError):
        kind, detail = FailureKind.CREDENTIALS, error.message
    elif isinstance(error, UnreachableError):
        kind, detail = FailureKind.NO_CONNECT, error.message
    elif not isinstance(error, (DeadlineError, _CallOverError)):
        kind, detail = FailureKind.CALLER, str(error)
    elif seen.cut:
        kind, detail = FailureKind.DROPPED, f"the server ended the call ({seen.cut})"
    elif seen.connect_s is None:
        kind = FailureKind.NO_CONNECT
        detail = f"no connection to {job.url} within {job.timeout_s:g} s"
    elif seen.agent_s is None:
        kind, detail = FailureKind.NO_AGENT, f"no agent joined within {job.timeout_s:g} s"
    elif seen.agent_left_s is not None:
        kind = FailureKind.DROPPED
        detail = f"the agent left after {seen.agent_left_s:.2f} s"
    elif seen.audio_s is None:
        track = "it published no audio" if seen.track_s is None else "its audio is silence"
        kind, detail = FailureKind.SILENT, f"the agent was not heard within {job.timeout_s:g} s: {track}"
    else:
        kind = FailureKind.NO_ANSWER
        detail = f"no answer within {job.timeout_s:g} s after the caller's words"
    return CallFailure(kind=kind, detail=detail, seen=seen.lines)


def judge_quality(seen: CallProgress, job: CallJob) -> CallFailure | None:
    """Say what was wrong with a call that was worse than the job allows."""
    quality = seen.line.worst
    if quality is None or quality >= job.min_quality:
        return None
    detail = (
        f"quality {quality:.1f} of at least {job.min_quality:g} around {seen.line.worst_at_s:.1f} s; "
        f"largest gap {seen.line.max_gap_s * 1000:.0f} ms, {seen.line.loss:.1%} of the packets lost"
    )
    return CallFailure(kind=FailureKind.POOR_QUALITY, detail=detail, seen=seen.lines)


def _result(job: CallJob, seen: CallProgress, failure: CallFailure | None, clock: Clock) -> CallResult:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    result = CallResult(
        id=job.id,
        ok=failure is None,
        room=job.room,
        identity=job.identity,
        hangup=job.hangup,
        connect_s=rounded(seen.connect_s),
        agent_s=rounded(seen.agent_s),
        ready_s=rounded(seen.ready_s),
        audio_s=rounded(seen.audio_s),
        answer_s=rounded(seen.answer_s),
        agent_changes=tuple(seen.changes),
        ended_s=rounded(clock() - seen.started_at),
        agent=seen.agent,
        rms=seen.rms,
        peak=seen.peak,
        failure=failure,
    )
    return msgspec.structs.replace(result, **_measured(seen))


def _measured(seen: CallProgress) -> dict[str, float]:
    """Fields of the result that only a call has whose line was measured."""
    line = seen.line
    if line.worst is None:
        return {}
    return {
        "quality": line.worst,
        "max_gap_s": round(line.max_gap_s, 4),
        "max_gap_at_s": round(line.max_gap_at_s, 4),
        "max_pause_s": round(seen.max_pause_s, 4),
        "max_pause_at_s": round(seen.max_pause_at_s, 4),
        "loss": round(line.loss, 4),
        "jitter_s": round(line.jitter_s, 4),
        "round_trip_s": round(line.round_trip_s, 4),
    }
