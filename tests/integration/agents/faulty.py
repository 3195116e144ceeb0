"""An agent that fails as the room's name says, once per room, and otherwise serves with a 450 Hz tone."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from array import array
from pathlib import Path

from livekit import rtc
from livekit.agents import AgentServer, JobContext, JobExecutorType, cli

RATE = 48_000
# Nothing here uses LiveKit's own speech models, whose loading would cost each worker 0.7 s of CPU time.
os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
# Of two jobs in threads that begin at once each would load the engine, and the call of the first never connects.
_ENGINE = rtc._ffi_client.FfiClient.instance if os.environ.get("TONE_JOBS") == "thread" else None
server = AgentServer(
    host="127.0.0.1",
    port=0,
    load_fnc=lambda *_: 0.0,
    drain_timeout=0,
    num_idle_processes=1,
    job_executor_type=JobExecutorType(os.environ.get("TONE_JOBS", "process")),
)


@server.rtc_session()
async def entry(ctx: JobContext) -> None:
    fault = ctx.room.name.split("-")[0]
    try:
        # Hidden, so that it is no part of the release; job processes share nothing else.
        # On a server the release is read-only; systemd names a folder.
        folder = Path(os.environ.get("STATE_DIRECTORY") or Path(__file__).parent)
        (folder / f".failed-{ctx.room.name}").touch(exist_ok=False)
    except FileExistsError:
        fault = ""
    if fault == "raise":
        raise ValueError("no such customer")
    if fault == "exit":
        print("can't open the table of customers", file=sys.stderr, flush=True)
        os._exit(3)
    if fault == "hang":
        time.sleep(600)  # noqa: ASYNC251 - a hang is what this fault is
    await ctx.connect()
    if fault == "late":
        raise ValueError("lost after connect")
    if fault == "silent":
        await asyncio.sleep(600)
    await serve(ctx)


async def serve(ctx: JobContext) -> None:
    """Publish a tone and say that it listens."""
    source = rtc.AudioSource(RATE, 1)
    await ctx.room.local_participant.publish_track(rtc.LocalAudioTrack.create_audio_track("tone", source))
    await ctx.room.local_participant.set_attributes({"voiceops.ready": "1"})
    # 20 ms of 450 Hz are whole periods.
    samples = RATE // 50
    tone = array("h", (int(8000 * math.sin(2 * math.pi * 450 * index / RATE)) for index in range(samples)))
    while True:
        await source.capture_frame(rtc.AudioFrame(tone.tobytes(), RATE, 1, samples))


if __name__ == "__main__":
    cli.run_app(server)
