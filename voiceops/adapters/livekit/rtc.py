"""A caller's end of a WebRTC call, on LiveKit's own client (livekit.rtc).

Its engine is native code that knows neither asyncio nor forks: everything here must be
made in the process and the event loop that uses it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING

from livekit import rtc

from voiceops.adapters.wav import read_wav
from voiceops.errors import CredentialsError, NotListeningError, UnreachableError
from voiceops.model.calls import (
    AgentJoined,
    AgentLeft,
    AgentReady,
    Disconnected,
    LineMeasured,
    PauseEnded,
    PhoneEvent,
    TrackSeen,
    VoiceStarted,
    VoiceStopped,
)
from voiceops.model.loudness import Loudness, PauseMeter
from voiceops.model.protocol import AGENT_STATE_ATTRIBUTE, LISTENING_STATES, READY_ATTRIBUTE, READY_TOPIC

if TYPE_CHECKING:
    from livekit.rtc._proto.stats_pb2 import CandidatePairStats, RtcStats

_MICROPHONE_RATE = 48_000
_CHUNK_S = 0.1
_TRACK_RATE = 48_000
"""Opus counts its samples at this rate, whatever is sent."""
_LISTEN_RATE = 16_000
_LISTEN_FRAME_MS = 20
_MEASURE_EVERY_S = 0.5
_LEAVE_S = 5.0
_LATE_S = 1.0
"""How long a hang-up waits for a connect that is still under way."""
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")


def without_tokens(text: str) -> str:
    """The server repeats a refused token in its answer, and the client in its error."""
    return _TOKEN.sub("[token]", text)


class _NoTokenSource(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_tokens(record.getMessage()), ()
        return True


def keep_tokens_out_of_logs() -> None:
    """The engine logs a refused token in full; safe to call twice."""
    logger = logging.getLogger("livekit")
    if not any(isinstance(known, _NoTokenSource) for known in logger.filters):
        logger.addFilter(_NoTokenSource())


def translated(error: rtc.ConnectError, url: str) -> UnreachableError:
    """Name the cause. The engine gives text only: the status stands in it as the server sent it."""
    text = without_tokens(str(error))
    if "401 Unauthorized" in text or "403 Forbidden" in text:
        return CredentialsError(
            f"{url} refuses the caller's token: {text.rsplit(' - ', 1)[-1]}",
            hint="compare LIVEKIT_API_KEY and LIVEKIT_API_SECRET with the server's keys",
        )
    if "Connection refused" in text:
        return NotListeningError(
            f"nobody listens at {url} (connection refused)",
            hint="is it running? see `inv check-running`",
            retryable=True,
        )
    text = text.removeprefix("engine: signal failure: ")
    return UnreachableError(
        f"no connection to {url}: {text}", hint="is it running? see `inv check-running`", retryable=True
    )


def _line_measured(
    at: float, track: str, counted: RtcStats.InboundRtp, pairs: Iterable[CandidatePairStats]
) -> LineMeasured:
    """A reading, from the messages of livekit's ``stats.proto``."""
    inbound = counted.inbound
    return LineMeasured(
        at=at,
        track=track,
        received=counted.received.packets_received,
        lost=counted.received.packets_lost,
        jitter_s=counted.received.jitter,
        round_trip_s=max((one.current_round_trip_time for one in pairs if one.nominated), default=0.0),
        heard_s=inbound.total_samples_received / _TRACK_RATE,
        concealed_s=inbound.concealed_samples / _TRACK_RATE,
        concealments=inbound.concealment_events,
        buffered_s=inbound.jitter_buffer_delay / _TRACK_RATE,
    )


class RtcPhone:
    """One line. With ``listen_on`` it keeps listening after the agent's first words; ``measure`` tells of
    pauses in them and of what WebRTC counts, too."""

    def __init__(
        self, *, listen_on: bool = False, measure: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        keep_tokens_out_of_logs()
        self._listen_on = listen_on or measure
        self._measured = measure
        self._pauses = PauseMeter() if measure else None
        self._clock = clock
        self._events: asyncio.Queue[PhoneEvent] = asyncio.Queue()
        self._room = rtc.Room()
        self._connecting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._source: rtc.AudioSource | None = None
        self._silence: asyncio.Task[None] | None = None
        self._ready: set[str] = set()
        self._known: set[str] = set()
        self._gone = False
        self._subscribe()

    async def dial(self, url: str, token: str) -> None:
        """Join; agents that are there already are announced as if they came now."""
        # Cancelling connect() loses the engine's handle and leaves a ghost in the room, so it
        # runs in a task of its own that hang_up() undoes.
        self._connecting = asyncio.get_running_loop().create_task(
            self._room.connect(url, token, rtc.RoomOptions(auto_subscribe=True))
        )
        try:
            await asyncio.shield(self._connecting)
        except rtc.ConnectError as error:
            raise translated(error, url) from error
        for participant in list(self._room.remote_participants.values()):
            self._saw(participant)

    async def open_microphone(self) -> None:
        """Publish and keep sending: the server announces a track once its first packet is there."""
        self._source = rtc.AudioSource(_MICROPHONE_RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self._silence = self._start(self._send_silence(self._source))
        await self._room.local_participant.publish_track(track, options)

    async def next_event(self) -> PhoneEvent:
        return await self._events.get()

    async def say(self, wav: str) -> float:
        """Speak the file; silence goes on afterwards, as from an open microphone."""
        assert self._source is not None, "open_microphone() comes first"
        speech = read_wav(wav)
        await self._stop(self._silence)
        size = int(speech.rate * _CHUNK_S)
        resampler = rtc.AudioResampler(speech.rate, _MICROPHONE_RATE)
        for start in range(0, len(speech.samples), size):
            for frame in resampler.push(bytearray(speech.samples[start : start + size].tobytes())):
                await self._source.capture_frame(frame)
        for frame in resampler.flush():
            await self._source.capture_frame(frame)
        await self._source.wait_for_playout()
        ended_at = self._clock()
        self._silence = self._start(self._send_silence(self._source))
        return ended_at

    async def hang_up(self) -> None:
        """Leave; a connect that is still under way is undone once it is through."""
        self._gone = True
        if self._connecting is not None and not self._connecting.done():
            await asyncio.wait({self._connecting}, timeout=_LATE_S)
            self._connecting.add_done_callback(self._undo)
        for task in list(self._tasks):
            await self._stop(task)
        if self._room.isconnected():
            leave = asyncio.get_running_loop().create_task(self._room.disconnect())
            done, _ = await asyncio.wait({leave}, timeout=_LEAVE_S)
            if not done:
                leave.cancel()
        if self._source is not None:
            await self._source.aclose()
            self._source = None

    def _undo(self, connecting: asyncio.Task[None]) -> None:
        """Leave again, where a connect came through after the caller had given up."""
        if not connecting.cancelled() and connecting.exception() is None:
            self._start(self._room.disconnect())

    def _subscribe(self) -> None:
        on = self._room.on
        on("participant_connected", self._saw)
        on("participant_active", self._saw)
        on("participant_attributes_changed", lambda _changed, participant: self._saw(participant))
        on("participant_disconnected", self._left)
        on("track_subscribed", lambda track, _publication, participant: self._heard(track, participant))
        on("data_received", self._told)
        on("disconnected", self._cut)

    def _emit(self, event: PhoneEvent) -> None:
        if not self._gone:
            self._events.put_nowait(event)

    def _saw(self, participant: rtc.Participant) -> None:
        if participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            return
        identity = participant.identity
        if identity not in self._known:
            self._known.add(identity)
            self._emit(AgentJoined(at=self._clock(), identity=identity))
        attributes = participant.attributes
        if (
            attributes.get(READY_ATTRIBUTE) == "1"
            or attributes.get(AGENT_STATE_ATTRIBUTE) in LISTENING_STATES
        ):
            self._is_ready(identity)

    def _is_ready(self, identity: str) -> None:
        if identity not in self._ready:
            self._ready.add(identity)
            self._emit(AgentReady(at=self._clock(), identity=identity))

    def _told(self, packet: rtc.DataPacket) -> None:
        if packet.topic == READY_TOPIC and packet.participant is not None:
            self._is_ready(packet.participant.identity)

    def _left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity in self._known:
            self._emit(AgentLeft(at=self._clock(), identity=participant.identity))

    def _cut(self, reason: int) -> None:
        self._emit(Disconnected(at=self._clock(), reason=rtc.DisconnectReason.Name(reason)))  # type: ignore[arg-type]

    def _heard(self, track: rtc.Track, participant: rtc.RemoteParticipant) -> None:
        agent = participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        if agent and track.kind == rtc.TrackKind.KIND_AUDIO and not self._gone:
            self._emit(TrackSeen(at=self._clock()))
            self._start(self._listen(track))
            if self._measured:
                self._start(self._measure(track))

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(
            track, sample_rate=_LISTEN_RATE, num_channels=1, frame_size_ms=_LISTEN_FRAME_MS
        )
        loudness = Loudness()
        try:
            async for event in stream:
                at = self._clock()
                if self._pauses is not None and (pause_s := self._pauses.feed(event.frame.data)):
                    self._emit(PauseEnded(at=at, pause_s=pause_s))
                voice = loudness.feed(event.frame.data, event.frame.duration, at)
                if voice is None:
                    continue
                if not voice.speaking:
                    self._emit(VoiceStopped(at=voice.at))
                    continue
                self._emit(VoiceStarted(at=voice.at, rms=voice.rms, peak=voice.peak))
                if not self._listen_on:
                    # Every open stream gets the frames of all streams of the process to filter.
                    break
        finally:
            await stream.aclose()

    async def _measure(self, track: rtc.Track) -> None:
        """Read the counters of one track until the call ends; a track that has ended counts no further."""
        while not self._gone:
            await asyncio.sleep(_MEASURE_EVERY_S)
            counted = await track.get_stats()
            pairs = [one.candidate_pair.candidate_pair for one in counted if one.HasField("candidate_pair")]
            for one in counted:
                if one.HasField("inbound_rtp"):
                    self._emit(_line_measured(self._clock(), track.sid, one.inbound_rtp, pairs))

    async def _send_silence(self, source: rtc.AudioSource) -> None:
        samples = int(_MICROPHONE_RATE * _CHUNK_S)
        frame = rtc.AudioFrame(bytes(samples * 2), _MICROPHONE_RATE, 1, samples)
        while True:
            await source.capture_frame(frame)
            await asyncio.sleep(max(0.0, source.queued_duration - _CHUNK_S / 5))

    def _start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        return task

    async def _stop(self, task: asyncio.Task[None] | None) -> None:
        if task is None:
            return
        self._tasks.discard(task)
        task.cancel()
        await asyncio.wait({task}, timeout=_LEAVE_S)
        if task.done() and not task.cancelled() and task.exception() is not None:
            logging.getLogger(__name__).warning("a task of the line failed", exc_info=task.exception())
