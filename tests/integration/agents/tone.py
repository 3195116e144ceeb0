"""An agent that plays a 440 Hz tone to whoever calls, without an AgentSession."""

from __future__ import annotations

import asyncio
import math
import os
from array import array

from livekit import rtc
from livekit.agents import AgentServer, JobContext, JobRequest, cli

RATE = 48_000
FRAME = RATE // 50

server = AgentServer(
    host="127.0.0.1", port=0, load_fnc=lambda *_: 0.0, drain_timeout=0, num_idle_processes=1
)


async def _accept(request: JobRequest) -> None:
    await request.accept()


@server.rtc_session(agent_name=os.environ.get("TONE_AGENT_NAME", ""), on_request=_accept)
async def entrypoint(ctx: JobContext) -> None:
    """``TONE_MODE`` picks a fault: silent, mute, leave, raise."""
    mode = os.environ.get("TONE_MODE", "")
    if mode == "raise":
        raise RuntimeError("an entrypoint that fails")
    await ctx.connect()
    if mode == "leave":
        await asyncio.sleep(0.3)
        ctx.shutdown()
        return
    if mode == "mute":
        await asyncio.Event().wait()
    source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
    track = rtc.LocalAudioTrack.create_audio_track("tone", source)
    await ctx.room.local_participant.publish_track(track)
    amplitude = 0 if mode == "silent" else 8000
    samples = array(
        "h", (int(amplitude * math.sin(2 * math.pi * 440 * index / RATE)) for index in range(RATE))
    ).tobytes()
    offset = 0
    while True:
        data = samples[offset : offset + FRAME * 2]
        await source.capture_frame(rtc.AudioFrame(data, RATE, 1, FRAME))
        offset = (offset + FRAME * 2) % len(samples)


if __name__ == "__main__":
    cli.run_app(server)
