"""A small OpenAI-compatible server: lists one model, and answers what the last user message says.

python -m tests.support.openai_server --port 8900
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from aiohttp import web

MODEL = "echo-1"


def answer_of(messages: list[dict[str, Any]]) -> str:
    """What the model says: it repeats the last user message, and counts those that it was shown."""
    said = [text_of(message) for message in messages if message.get("role") == "user"]
    return f"You said {said[-1] if said else 'nothing'!r}, which is message {len(said)}."


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, whose content is a string or a list of parts."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


async def models(_request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


async def complete(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    text = answer_of(asked["messages"])
    common = {"id": "chatcmpl-1", "created": int(time.time()), "model": MODEL}
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({**common, "object": "chat.completion", "choices": [choice], "usage": usage})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for delta, reason in (({"role": "assistant", "content": text}, None), ({}, "stop")):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        chunk = {**common, "object": "chat.completion.chunk", "choices": [choice], "usage": usage}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


def application() -> web.Application:
    """The server as a web application."""
    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", complete)])
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    web.run_app(application(), host="127.0.0.1", port=parser.parse_args().port)
