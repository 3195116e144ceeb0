"""A synthetic call: its plan, its events and its result."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Union, cast

import msgspec

from voiceops.model.decoding import prepare
from voiceops.model.protocol import CALL_ROOM_PREFIX
from voiceops.model.secret import Secret

if TYPE_CHECKING:
    from voiceops.model.documents.common import CallEntry

ROOM_PREFIX = CALL_ROOM_PREFIX
"""Rooms that synthetic calls make for themselves."""


class Hangup(str, Enum):
    """How a caller ends the call."""

    CLEAN = "clean"
    """Leaves as a client does."""
    ABRUPT = "abrupt"
    """Vanishes without a word: the caller's process is killed."""
    MID_GREETING = "mid-greeting"
    """Leaves while the agent's first words are being spoken."""

    def __str__(self) -> str:
        return self.value


class FailureKind(str, Enum):
    """Why a call is not a good one, in the order in which a call can fail."""

    CREDENTIALS = "credentials"
    NO_CONNECT = "no-connect"
    NO_AGENT = "no-agent"
    SILENT = "silent"
    """The agent is there, and nothing is heard of it."""
    NO_ANSWER = "no-answer"
    """It spoke first, but not after the caller's words."""
    DROPPED = "dropped"
    POOR_QUALITY = "poor-quality"
    """Answered and held, and heard worse than --min-quality."""
    CALLER = "caller"
    """The calling side broke: this says nothing about the agent."""

    def __str__(self) -> str:
        return self.value


class _Struct(msgspec.Struct, frozen=True, kw_only=True):
    pass


class CallTarget(_Struct, frozen=True, kw_only=True):
    """The LiveKit server to call, and how its agent is named."""

    url: str
    api_key: Secret
    api_secret: Secret
    agent_name: str = ""
    """Named agents get no job by themselves: the caller's token asks for one."""
    room: str = ""
    """Call into this room and leave it standing; empty: a fresh one per call."""


class CallPlan(_Struct, frozen=True, kw_only=True):
    """How many calls, how fast, and how each one goes."""

    count: int = 1
    concurrency: int = 1
    rate_per_s: float = 0.0
    """Calls started per second; 0: as soon as a caller is free."""
    duration_s: float = 0.0
    """Call for that long instead of ``count`` times."""
    timeout_s: float = 15.0
    """For one call: from dialling to hearing the agent."""
    hold_s: float = 0.0
    """How long a caller stays after it has heard the agent."""
    min_quality: float = 0.0
    """Smallest quality of a good call, as a mean opinion score from 1 to 4.4; 0: any."""
    script: str = ""
    """A WAV file that the caller says once the agent has finished its greeting."""
    hangups: tuple[Hangup, ...] = (Hangup.CLEAN,)
    """Taken in turn, so that ``clean,clean,abrupt`` makes every third call vanish."""
    redial: bool = False
    """Callers keep their identity and call again at once."""
    expect_success: float = 0.95
    """Smallest share of good calls for exit code 0."""


class CallJob(_Struct, frozen=True, kw_only=True):
    """One call, as a caller process gets it. The token opens its room only."""

    id: int
    url: str
    token: str
    room: str
    identity: str
    timeout_s: float
    hold_s: float = 0.0
    min_quality: float = 0.0
    script: str = ""
    hangup: Hangup = Hangup.CLEAN

    def __repr__(self) -> str:
        return f"CallJob(id={self.id}, room={self.room!r})"


class CallFailure(_Struct, frozen=True, kw_only=True):
    """What went wrong and what was seen until then."""

    kind: FailureKind
    detail: str
    seen: tuple[str, ...] = ()


class AgentChange(_Struct, frozen=True, kw_only=True):
    """An agent that came or left after the first one was heard."""

    at_s: float
    change: str
    """joined or left."""
    agent: str


class CallResult(_Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. Times are seconds since the moment before dialling."""

    id: int
    ok: bool
    room: str
    identity: str
    hangup: Hangup = Hangup.CLEAN
    started_s: float = 0.0
    """Seconds since the run began."""
    connect_s: Union[float, None] = None
    agent_s: Union[float, None] = None
    ready_s: Union[float, None] = None
    audio_s: Union[float, None] = None
    answer_s: Union[float, None] = None
    """From the end of the caller's words to the agent's first sound after them."""
    quality: Union[float, None] = None
    """Of the worst 5 s while the caller held, as a mean opinion score from 1 to 4.4 (ITU-T G.107)."""
    max_gap_s: Union[float, None] = None
    """The longest stretch for which no audio of the agent arrived; a pause in its speech is none."""
    max_gap_at_s: Union[float, None] = None
    max_pause_s: Union[float, None] = None
    """The longest silence between two sounds of the agent, whoever made it."""
    max_pause_at_s: Union[float, None] = None
    loss: Union[float, None] = None
    """Share of the agent's packets that never arrived, 0 to 1."""
    jitter_s: Union[float, None] = None
    """The largest."""
    round_trip_s: Union[float, None] = None
    """The longest, from the caller to the server and back."""
    agent_changes: tuple[AgentChange, ...] = ()
    ended_s: Union[float, None] = None
    agent: str = ""
    """Identity of the agent that came."""
    rms: Union[int, None] = None
    """Loudness of what was heard, of 32,768."""
    peak: Union[int, None] = None
    failure: Union[CallFailure, None] = None
    verdict: Union[dict[str, Any], None] = None
    """What the ``why`` rules found while the caller was still waiting."""

    def as_json(self) -> CallEntry:
        """Return the call as documents have it: what was not reached is missing."""
        return cast("CallEntry", {"ok": self.ok} | msgspec.to_builtins(self))


class CallerLoad(_Struct, frozen=True, kw_only=True):
    """How the calling side itself fared: slow callers make a good agent look slow."""

    processes: int = 1
    crash_count: int = 0
    """Calls whose process crashed in LiveKit's native client: each was placed once more."""
    cpu_share: float = 0.0
    """Of the whole machine, 0 to 1: what the callers used."""
    machine_cpu: float = 0.0
    """Of the whole machine, 0 to 1: what everybody used, 95th percentile over the run."""
    lag_p95_s: float = 0.0
    """How late the callers' event loops woke up."""
    starved: bool = False
    detail: str = ""


class PhoneEvent(_Struct, frozen=True, kw_only=True):
    """Something that the caller's end of the line saw; ``at`` is monotonic."""

    at: float


class AgentJoined(PhoneEvent, frozen=True, kw_only=True):
    """A participant of kind AGENT is in the room."""

    identity: str


class AgentReady(PhoneEvent, frozen=True, kw_only=True):
    """An agent says that it listens."""

    identity: str


class AgentLeft(PhoneEvent, frozen=True, kw_only=True):
    identity: str


class VoiceStarted(PhoneEvent, frozen=True, kw_only=True):
    """The agent is heard; ``at`` is the first loud frame."""

    rms: int
    peak: int


class VoiceStopped(PhoneEvent, frozen=True, kw_only=True):
    """The agent has been quiet for a while; ``at`` is the last loud frame."""


class PauseEnded(PhoneEvent, frozen=True, kw_only=True):
    """The agent is heard again; ``at`` is the first sound after its longest silence so far."""

    pause_s: float


class LineMeasured(PhoneEvent, frozen=True, kw_only=True):
    """What WebRTC has counted of the agent's audio since it began (``RTCInboundRtpStreamStats``)."""

    track: str
    received: int
    lost: int
    jitter_s: float
    round_trip_s: float
    heard_s: float
    """Audio that was played, concealed audio included."""
    concealed_s: float
    """Audio that was made up, because nothing had arrived when it was due."""
    concealments: int
    """How many stretches of it there were."""
    buffered_s: float
    """How long each second of played audio has waited in the jitter buffer, summed up."""


class TrackSeen(PhoneEvent, frozen=True, kw_only=True):
    """The agent's audio track is subscribed, whatever it carries."""


class Disconnected(PhoneEvent, frozen=True, kw_only=True):
    """The server or the network ended the call."""

    reason: str


prepare(CallResult)  # calls from several hosts are read side by side
