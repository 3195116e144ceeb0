"""An agent that plays a 440 Hz tone to whoever calls, without an AgentSession."""

from __future__ import annotations

import asyncio
import math
import os
import time
from array import array
from contextlib import suppress

from livekit import rtc
from livekit.agents import AgentServer, JobContext, JobExecutorType, JobRequest, cli

from voiceops.model.loudness import Loudness
from voiceops.model.protocol import READY_ATTRIBUTE

RATE = 48_000
FRAME = RATE // 50

# Nothing here uses LiveKit's own speech models, whose loading would cost each worker 0.7 s of CPU time.
os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
# Of two jobs in threads that begin at once each would load the engine, and the call of the first never connects.
_ENGINE = rtc._ffi_client.FfiClient.instance if os.environ.get("TONE_JOBS") == "thread" else None
server = AgentServer(
    host="127.0.0.1",
    port=0,
    load_fnc=lambda *_: 0.0,
    # Below infinity an idle worker refuses a second call that comes within the same 100 ms.
    load_threshold=math.inf,
    drain_timeout=0,
    num_idle_processes=1,
    # In threads it starts with half of the work: there is no server of forks that imports everything again.
    job_executor_type=JobExecutorType(os.environ.get("TONE_JOBS", "process")),
)


async def _accept(request: JobRequest) -> None:
    await request.accept()


@server.rtc_session(agent_name=os.environ.get("TONE_AGENT_NAME", ""), on_request=_accept)
async def entrypoint(ctx: JobContext) -> None:
    """The end of the room's name picks a behaviour: -silent, -mute, -raise, -hang, -leave, -answer, -beep, -stall."""
    mode = ctx.job.room.name.rpartition("-")[2]
    if mode == "raise":
        raise RuntimeError("an entrypoint that fails")
    if mode == "hang":
        await asyncio.Event().wait()
    words_ended = asyncio.Event()
    if mode == "answer":
        ctx.room.on("track_subscribed", lambda track, *_: _listen(track, words_ended))
    gone = asyncio.Event()
    ctx.room.on("disconnected", lambda *_: gone.set())
    await ctx.connect()
    if mode == "mute":
        await gone.wait()
        return
    if mode == "beep":
        await _beep(ctx, gone)
        return
    source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
    track = rtc.LocalAudioTrack.create_audio_track("tone", source)
    await ctx.room.local_participant.publish_track(track)
    if mode == "leave":
        await _play(source, 0.5)
        await ctx.room.disconnect()
        ctx.shutdown()
    elif mode == "answer":
        await _play(source, 0.5)
        await words_ended.wait()
        await _play(source, 1.0)
    elif mode == "stall":
        await _play(source, 2.0)
        time.sleep(0.7)  # noqa: ASYNC251 - code that blocks its loop: 0.2 s are queued, so callers miss 0.5 s
        await _play(source, math.inf, until=gone)
    else:
        # To the end of the call, not beyond: the library would let it play to nobody for 15 s more.
        await _play(source, math.inf, amplitude=0 if mode == "silent" else 8000, until=gone)


async def _beep(ctx: JobContext, gone: asyncio.Event) -> None:
    """Be heard for 2 s now and then: a published track takes 5 % of a core, also of silence, also while it is muted.

    In large frames: of jobs in threads each hears of each frame that another one has sent.
    """
    participant = ctx.room.local_participant
    await participant.set_attributes({READY_ATTRIBUTE: "1"})
    while not gone.is_set():
        source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
        track = rtc.LocalAudioTrack.create_audio_track("tone", source)
        publication = await participant.publish_track(track)
        await publication.wait_for_subscription()
        await _play(source, 2.0, until=gone, frame=RATE // 10)
        await participant.unpublish_track(publication.sid)
        await source.aclose()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(gone.wait(), 10.0)


async def _play(
    source: rtc.AudioSource,
    seconds: float,
    *,
    amplitude: int = 8000,
    until: asyncio.Event | None = None,
    frame: int = FRAME,
) -> None:
    one_second = array(
        "h", (int(amplitude * math.sin(2 * math.pi * 440 * index / RATE)) for index in range(RATE))
    ).tobytes()
    offset, played = 0, 0.0
    while played < seconds:
        if until is not None and until.is_set():
            return
        data = one_second[offset : offset + frame * 2]
        await source.capture_frame(rtc.AudioFrame(data, RATE, 1, frame))
        offset = (offset + frame * 2) % len(one_second)
        played += frame / RATE
    await source.wait_for_playout()


def _listen(track: rtc.Track, words_ended: asyncio.Event) -> None:
    async def listen() -> None:
        loudness = Loudness()
        stream = rtc.AudioStream(track, sample_rate=16_000, num_channels=1, frame_size_ms=20)
        try:
            async for event in stream:
                voice = loudness.feed(event.frame.data, event.frame.duration, time.monotonic())
                if voice is not None and not voice.speaking:
                    words_ended.set()
                    return
        finally:
            await stream.aclose()

    _tasks.add(asyncio.get_running_loop().create_task(listen()))


_tasks: set[asyncio.Task[None]] = set()


if __name__ == "__main__":
    cli.run_app(server)
