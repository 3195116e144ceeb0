"""An agent that knows nothing of voiceops, on a machine that seems to be busy."""

from __future__ import annotations

import asyncio

from livekit.agents import AgentServer, JobContext

server = AgentServer(num_idle_processes=1, load_fnc=lambda: 0.8)


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    await ctx.connect()
    await asyncio.Event().wait()
