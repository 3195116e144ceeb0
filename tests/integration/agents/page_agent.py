"""An agent for the page's tests: it plays a 440 Hz tone, and says by an attribute which tone it hears."""

from __future__ import annotations

import math
import os
from array import array
from itertools import pairwise

from livekit import rtc
from livekit.agents import AgentServer, JobContext, JobExecutorType

from voiceops.agentkit import Call, guarded_entrypoint

RATE = 48_000
FRAME = RATE // 50
EAR_RATE = 16_000

os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
server = AgentServer(
    host="127.0.0.1",
    port=0,
    load_fnc=lambda *_: 0.0,
    load_threshold=math.inf,
    drain_timeout=0,
    num_idle_processes=1,
    job_executor_type=JobExecutorType.THREAD,
)


@server.rtc_session()
@guarded_entrypoint
async def entrypoint(ctx: JobContext, call: Call[None]) -> None:
    """One call."""

    def heard(track: rtc.Track, *_: object) -> None:
        call.background(_listen(ctx, track), "listen")

    ctx.room.on("track_subscribed", heard)
    for one in ctx.room.remote_participants.values():
        for publication in one.track_publications.values():
            if publication.track is not None:
                heard(publication.track)
    source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
    track = rtc.LocalAudioTrack.create_audio_track("tone", source)
    await ctx.room.local_participant.publish_track(track)
    call.background(_play(source), "play")


async def _play(source: rtc.AudioSource) -> None:
    second = array(
        "h", (int(8000 * math.sin(2 * math.pi * 440 * index / RATE)) for index in range(RATE))
    ).tobytes()
    while True:
        for offset in range(0, len(second), FRAME * 2):
            await source.capture_frame(rtc.AudioFrame(second[offset : offset + FRAME * 2], RATE, 1, FRAME))


async def _listen(ctx: JobContext, track: rtc.Track) -> None:
    """Count the crossings of zero in the second half of the first second that is not silent."""
    stream = rtc.AudioStream(track, sample_rate=EAR_RATE, num_channels=1, frame_size_ms=20)
    try:
        hertz = await _tone_in(stream)
    finally:
        # In a thread it would outlive the job: each frame an error in the log, as the job's loop has gone.
        await stream.aclose()
    if hertz is not None:
        await ctx.room.local_participant.set_attributes({"heard_hertz": str(hertz)})


async def _tone_in(stream: rtc.AudioStream) -> int | None:
    samples = array("h")
    async for event in stream:
        frame = array("h", bytes(event.frame.data))
        if max(frame, default=0) < 500:
            samples = array("h")
            continue
        samples += frame
        if len(samples) >= EAR_RATE:
            del samples[: EAR_RATE // 2]  # while the connection settles, sound has gaps
            crossings = sum((one < 0) != (other < 0) for one, other in pairwise(samples))
            return round(crossings * EAR_RATE / (2 * len(samples)))
    return None
