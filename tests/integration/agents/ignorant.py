"""An agent that knows nothing of voiceops: it joins, and stays until the room closes."""

from __future__ import annotations

import os

from livekit.agents import AgentServer, JobContext, cli

# Nothing here uses LiveKit's own speech models, whose loading would cost each worker 0.7 s of CPU time.
os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
server = AgentServer(num_idle_processes=1)


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    await ctx.connect()


if __name__ == "__main__":
    cli.run_app(server)
