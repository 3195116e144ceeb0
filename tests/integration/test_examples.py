"""The shipped examples answer real calls without any cloud account."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from examples.rental.agent import equipment
from examples.rental.source import Source, application
from tests.support import live, parts
from tests.support.callers import token
from tests.support.letta_server import TOKEN, LettaStandIn, serving
from tests.support.person import Person, person_in_call

CLOUD_KEYS = ("OPENAI_API_KEY", "DEEPGRAM_API_KEY", "CARTESIA_API_KEY", "LIVEKIT_INFERENCE_API_KEY")
OFFLINE = dict.fromkeys(CLOUD_KEYS, "")


@asynccontextmanager
async def call(server: live.LiveServer) -> AsyncIterator[Person]:
    name = f"example-{secrets.token_hex(4)}"
    async with person_in_call(server.url, token(name)) as person:
        yield person


@pytest.fixture
def server(tmp_path: Path) -> Iterator[live.LiveServer]:
    """A server of its own: the examples take implicit dispatches."""
    with live.livekit_server(tmp_path) as server:
        yield server


async def test_the_example_agent_greets_and_plays_back_what_the_caller_said(
    server: live.LiveServer, repository: Path
) -> None:
    with live.worker(server, repository / "examples/agent/agent.py", agentkit=True, env=OFFLINE):
        async with call(server) as person:
            await asyncio.wait_for(person.speech.wait(), 20)
            await person.hears("This is your voice agent")
            person.silence.clear()
            await person.says("I would like to rent a digger for two days.")
            await person.hears("You said:")
            person.speech.clear()
            await person.hears("seconds of speech")


@pytest.fixture
async def source() -> AsyncIterator[tuple[Source, str]]:
    """The rental's back office, with its address."""
    source, port = Source(), parts.free_port()
    runner = web.AppRunner(application(source), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield source, f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_the_rental_answers_every_call_whatever_its_source_does(
    server: live.LiveServer, repository: Path, source: tuple[Source, str]
) -> None:
    office, url = source
    agent = repository / "examples/rental/agent.py"
    with live.worker(server, agent, agentkit=True, env=OFFLINE | {"RENTAL_URL": url}):
        office.status, began = 429, time.monotonic()
        async with call(server) as person:
            await person.hears("I can't see our stock right now")
        office.status, office.hang = 200, True
        for _ in range(2):
            async with call(server) as person:
                await person.hears("I can't see our stock right now")
        pauses = (time.monotonic() - began) // equipment.options.retry_after_s
        assert office.requests["equipment"] <= 1 + pauses, "a source that has just failed is not asked"

        await asyncio.sleep(equipment.options.retry_after_s)
        office.hang, office.delay_s = False, 0.4
        office.requests.clear()
        for _ in range(2):
            async with call(server) as person:
                await person.hears("2 diggers at 120 euros")
        assert office.requests["equipment"] == 1, "the jobs share one cache"

        async with call(server) as person:
            await person.hears("2 diggers")
            await person.says("Yes please, the digger.")
            await person.hears("1 left")
        async with call(server) as person:
            await person.hears("1 diggers")
        assert office.requests["bookings"] == 1
        assert office.requests["equipment"] == 2, "once more after the booking"


async def test_the_agent_of_letta_answers_every_call_whatever_letta_does(
    server: live.LiveServer, repository: Path
) -> None:
    letta = LettaStandIn(delay_s=3600)
    async with serving(letta) as url:
        env = OFFLINE | {"LETTA_URL": url, "LETTA_PASSWORD": TOKEN, "OPENAI_BASE_URL": ""}
        with live.worker(server, repository / "examples/letta/agent.py", agentkit=True, env=env):
            async with call(server) as person:
                await person.hears("My memory is out of reach")
            letta.delay_s = 0.0
            async with call(server) as person:
                await person.hears("This is your voice agent")
                await person.says_until_hears("I heard [")
                letta.status = 500
                await person.says_until_hears("You said:")
            assert len(letta.agents) == 1
