"""A server that speaks as much of Letta's API as a call uses, and misbehaves on request."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support import parts

TOKEN = "token-of-letta"
LETTA_FREE, ECHO = "letta/letta-free", "openai-proxy/echo-1"


@dataclass
class LettaStandIn:
    """Its agents, and how it behaves."""

    models: list[str] = field(default_factory=lambda: [LETTA_FREE, ECHO])
    agents: list[dict[str, Any]] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    conversations: dict[str, list[str]] = field(default_factory=dict)
    """What was said in each."""
    delay_s: float = 0.0
    status: int = 200
    model_fails: bool = False

    @web.middleware
    async def behave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests[f"{request.method} {request.path.split('/')[2]}"] += 1
        await asyncio.sleep(self.delay_s)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"detail": "Unauthorized"}, status=401)
        if self.status != 200:
            return web.json_response({"detail": "as asked"}, status=self.status)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def list_models(self, _request: web.Request) -> web.Response:
        return web.json_response([{"handle": handle} for handle in self.models])

    async def list_agents(self, request: web.Request) -> web.Response:
        named = [one for one in self.agents if one["name"] == request.query["name"]]
        return web.json_response(named[: int(request.query["limit"])])

    async def make_agent(self, request: web.Request) -> web.Response:
        asked = await request.json()
        made = {
            "id": f"agent-{len(self.agents)}",
            "name": asked["name"],
            "llm_config": {"handle": asked["model"]},
        }
        self.agents.append(made)
        return web.json_response(made)

    async def change_agent(self, request: web.Request) -> web.Response:
        agent = next(one for one in self.agents if one["id"] == request.match_info["agent"])
        agent["llm_config"] = {"handle": (await request.json())["model"]}
        return web.json_response(agent)

    async def make_conversation(self, _request: web.Request) -> web.Response:
        made = f"conv-{len(self.conversations)}"
        self.conversations[made] = []
        return web.json_response({"id": made})

    async def message(self, request: web.Request) -> web.StreamResponse:
        said = (await request.json())["messages"][0]["content"]
        heard = self.conversations[request.match_info["conversation"]]
        heard.append(said)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        text = f"I heard {said}, message {len(heard)}."
        good = {"message_type": "assistant_message", "content": text}
        bad = {"message_type": "error_message", "message": "the model is away"}
        for event in ({"message_type": "ping"}, bad if self.model_fails else good):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self.behave])
        app.add_routes(
            [
                web.get("/v1/models/", self.list_models),
                web.get("/v1/agents/", self.list_agents),
                web.post("/v1/agents/", self.make_agent),
                web.patch("/v1/agents/{agent}", self.change_agent),
                web.post("/v1/conversations/", self.make_conversation),
                web.post("/v1/conversations/{conversation}/messages", self.message),
            ]
        )
        return app


@asynccontextmanager
async def serving(letta: LettaStandIn) -> AsyncIterator[str]:
    """Serve it; the address."""
    port = parts.free_port()
    runner = web.AppRunner(letta.application(), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
