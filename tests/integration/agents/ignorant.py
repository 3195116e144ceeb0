"""An agent that knows nothing of voiceops: it joins, and stays until the room closes."""

from __future__ import annotations

from livekit.agents import AgentServer, JobContext, cli

server = AgentServer(num_idle_processes=1)


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    await ctx.connect()


if __name__ == "__main__":
    cli.run_app(server)
