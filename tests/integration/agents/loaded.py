"""An agent that knows nothing of voiceops, on a machine that seems to be busy."""

from __future__ import annotations

import asyncio
import os

from livekit.agents import AgentServer, JobContext

# Nothing here uses LiveKit's own speech models, whose loading would cost each worker 0.7 s of CPU time.
os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
server = AgentServer(num_idle_processes=1, load_fnc=lambda: 0.8)


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    await ctx.connect()
    await asyncio.Event().wait()
