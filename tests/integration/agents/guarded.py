"""A guarded agent that misbehaves as the end of its room's name says, and otherwise greets."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from livekit.agents import Agent, AgentServer, JobContext

from voiceops.agentkit import Call, cached, guarded_entrypoint
from voiceops.agentkit.speech.select import speech_from_environment

server = AgentServer(num_idle_processes=1)
speech = speech_from_environment({})


@cached(ttl_s=30)
async def stock() -> int:
    """The pid of the job that fetched it."""
    return os.getpid()


async def load(ctx: JobContext) -> int:
    """Data that hang when the room's name says so."""
    if ctx.job.room.name.endswith("-hang"):
        await asyncio.Event().wait()
    return await stock()


@server.rtc_session()
@guarded_entrypoint(
    load=load,
    fallback=-1,
    load_timeout_s=0.3,
    hangup_grace_s=1.0,
    nobody_timeout_s=4.0,
    cleanup_timeout_s=1.0,
)
async def entrypoint(ctx: JobContext, call: Call[int]) -> None:
    """One call."""
    fault = ctx.room.name.rpartition("-")[2]
    if fault == "raise":
        raise RuntimeError("no such customer")
    if fault == "exit":
        sys.exit(3)
    if fault == "crash":
        os._exit(7)
    if fault == "abort":
        os.abort()
    if fault == "block":
        time.sleep(5)  # noqa: ASYNC251 - the fault that the test is about
    session = speech.session()

    async def again() -> None:
        await ctx.room.local_participant.set_attributes({"greeted_again": "1"})

    call.on_return(again)
    await call.start(session, Agent(instructions="Greet."))
    await ctx.room.local_participant.set_attributes({"data": str(call.data)})
    session.say("Hello.")
    while fault == "stubborn":
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
