"""A plain AgentSession that knows nothing of voiceops and has no models: it listens, and never speaks."""

from __future__ import annotations

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli

server = AgentServer(host="127.0.0.1", port=0, load_fnc=lambda *_: 0.0, drain_timeout=0, num_idle_processes=1)


@server.rtc_session()
async def entry(ctx: JobContext) -> None:
    session: AgentSession[None] = AgentSession()
    await session.start(agent=Agent(instructions="listen"), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
