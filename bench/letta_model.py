"""A conversation with a real Letta whose model is a server here: ``python -m bench.letta_model``.

``inv init --profile letta``, a key and the address of a server that speaks OpenAI's API in ``.env``, one ``inv start``: then somebody calls and
speaks. Each answer has to be what the model said, and it has to see what was said before. Then the model answers 500, hangs, and is away:
each time the caller has to hear something; and it converses again once the model is back.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from livekit import api

from bench.profile import inv, project
from tests.support import parts
from tests.support.person import Person, person_in_call

MODEL = "local-1"
ANSWER = "This is answer number"
WITHIN_S = 30.0
QUIET_S = 4.0
"""No sentence of the agent lasts longer."""


@dataclass
class Model:
    """What it was asked, and how it behaves."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    delay_s: float = 0.0

    async def models(self, _request: web.Request) -> web.Response:
        listed = {"id": MODEL, "object": "model", "created": 0, "owned_by": "here", "max_model_len": 32_000}
        return web.json_response({"object": "list", "data": [listed]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        await asyncio.sleep(self.delay_s)
        if self.status != 200:
            return web.json_response(
                {"error": {"message": "as asked", "type": "server_error"}}, status=self.status
            )
        said = f"{ANSWER} {len(self.asked)}."
        head = {"id": f"c{len(self.asked)}", "created": int(time.time()), "model": MODEL}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        if not asked.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            return web.json_response(
                {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for delta, ends in (({"role": "assistant", "content": said}, None), ({}, "stop")):
            chunk = {"index": 0, "delta": delta, "finish_reason": ends}
            event = {
                **head,
                "object": "chat.completion.chunk",
                "choices": [chunk],
                "usage": usage if ends else None,
            }
            await answer.write(f"data: {json.dumps(event)}\n\n".encode())
        await answer.write(b"data: [DONE]\n\n")
        return answer

    async def embed(self, request: web.Request) -> web.Response:
        inputs = (await request.json())["input"]
        count = len(inputs) if isinstance(inputs, list) else 1
        data = [{"object": "embedding", "index": index, "embedding": [0.1] * 1536} for index in range(count)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return web.json_response({"object": "list", "data": data, "model": MODEL, "usage": usage})


@asynccontextmanager
async def serving(model: Model, port: int) -> AsyncIterator[None]:
    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/models", model.models),
            web.post("/v1/chat/completions", model.complete),
            web.post("/v1/embeddings", model.embed),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def calling(folder: Path) -> AsyncIterator[Person]:
    lines = (folder / ".env").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines if "=" in line)
    name = f"person-{time.monotonic_ns()}"
    token = api.AccessToken(env["LIVEKIT_API_KEY"], env["LIVEKIT_API_SECRET"]).with_identity("person")
    jwt = token.with_grants(api.VideoGrants(room_join=True, room=name)).to_jwt()
    async with person_in_call("ws://127.0.0.1:7880", jwt) as person:
        yield person


async def greeted(person: Person) -> None:
    """Wait until the agent has ended its greeting: what is said into it is no turn."""
    await person.hears("This is your voice agent")
    while True:
        person.speech.clear()
        try:
            await asyncio.wait_for(person.speech.wait(), QUIET_S)
        except asyncio.TimeoutError:
            return


async def answered(person: Person, words: str) -> float:
    """Say something and wait for an answer with these words; seconds until it began."""
    before = len(person.heard)
    await person.says("Hello.")
    began = time.monotonic()
    while not any(words in sentence for sentence in person.heard[before:]):
        if time.monotonic() - began > WITHIN_S:
            raise AssertionError(f"no {words!r} in {person.heard}")
        await asyncio.sleep(0.05)
    took_s = time.monotonic() - began
    await asyncio.sleep(QUIET_S)
    return took_s


async def main() -> int:
    """Run it; 1 where a call was not answered as it should."""
    model, port = Model(), parts.free_port()
    with project() as folder:
        async with serving(model, port):
            with (folder / ".env").open("a") as file:
                file.write(f"OPENAI_API_KEY=local\nOPENAI_BASE_URL=http://127.0.0.1:{port}/v1\n")
            await asyncio.to_thread(inv, folder, "start")
            async with calling(folder) as person:
                await greeted(person)
                print("greeting:", person.heard, flush=True)
                took_s = [round(await answered(person, ANSWER), 2) for _ in range(4)]
                told = [one["messages"] for one in model.asked]
                assert any(f"{ANSWER} 1." in json.dumps(one) for one in told[1:]), told
                print(
                    f"4 of 4 turns answered by the model, which saw what it had said, after {took_s} s",
                    flush=True,
                )
            for what, status, delay_s in (("answers 500", 500, 0.0), ("hangs", 200, 60.0)):
                model.status, model.delay_s = status, delay_s
                async with calling(folder) as person:
                    await greeted(person)
                    print(
                        f"the model {what}: plain reply after {await answered(person, 'You said'):.1f} s",
                        flush=True,
                    )
            model.status, model.delay_s = 200, 0.0
        async with calling(folder) as person:
            await greeted(person)
            print(
                f"the model is away: plain reply after {await answered(person, 'You said'):.1f} s", flush=True
            )
        async with serving(model, port), calling(folder) as person:
            await greeted(person)
            print(f"it is back: answered after {await answered(person, ANSWER):.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
