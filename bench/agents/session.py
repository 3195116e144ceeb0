"""One AgentSession, the same with agentkit (BENCH_AGENTKIT=1) and on bare livekit-agents.

The end of the room's name picks a fault: -raise, -exit, -block, -stubborn.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from livekit.agents import Agent, AgentServer, JobContext, cli

from voiceops.agentkit import Call, guarded_entrypoint, speech_from_environment

GREETING = "Hello. This is your voice agent. Say something, and I will repeat it."

# Both without a limit by load: a worker that refuses a call is another measure.
server = AgentServer(
    host="127.0.0.1", port=0, load_fnc=lambda *_: 0.0, load_threshold=float("inf"), drain_timeout=0
)
speech = speech_from_environment()


class Greeter(Agent):
    """Says hello."""

    def __init__(self) -> None:
        super().__init__(instructions="Greet the caller.")

    async def on_enter(self) -> None:
        self.session.say(GREETING)


async def misbehave(room: str) -> None:
    """What goes wrong before the session starts."""
    fault = room.rpartition("-")[2]
    if fault == "raise":
        raise RuntimeError("an entrypoint that fails")
    if fault == "exit":
        sys.exit(3)
    if fault == "block":
        time.sleep(5)  # noqa: ASYNC251 - blocking the loop is the fault
    while fault == "stubborn":
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


# Decorated where they stand: the processes of the jobs find an entrypoint by its name.
if os.environ.get("BENCH_AGENTKIT") == "1":

    @server.rtc_session()
    @guarded_entrypoint
    async def entrypoint(ctx: JobContext, call: Call[None]) -> None:
        """One call, guarded."""
        await misbehave(ctx.job.room.name)
        await call.start(speech.session(), Greeter())

else:

    @server.rtc_session()
    async def entrypoint(ctx: JobContext) -> None:
        """One call. Connects first, as the guarded one does: starting the session alone would cost 0.1 s."""
        await ctx.connect()
        await misbehave(ctx.job.room.name)
        await speech.session().start(Greeter(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
