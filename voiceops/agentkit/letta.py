"""A client of Letta for calls: whatever it asks has a deadline, and every failure is a ``LettaError``.

Written for the API of Letta 0.16. ``agent_id`` may be kept by ``cached``; a ``LettaConversation`` belongs to one call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
import msgspec

T = TypeVar("T")

NO_MODEL = ""
"""What ``agent_id`` returns where Letta has no model: it can remember, and not answer."""
_TAG = "voiceops"
_PREFERRED = ("openai/gpt-4.1-mini", "openai/gpt-4o-mini")
"""Fast ones first: a caller waits."""
_OWN_MODELS = "letta/"
"""Always listed, and on Letta's own servers: only on request."""


class _Model(msgspec.Struct, frozen=True):
    handle: str = ""


class _LettaTalk(msgspec.Struct, frozen=True):
    id: str


class _LettaAgent(msgspec.Struct, frozen=True):
    id: str
    llm_config: _Model = _Model()


class LettaEvent(msgspec.Struct, frozen=True):
    """One event of a stream of Letta's, as far as it is read here."""

    message_type: str = ""
    content: object = None
    error: object = None

    @property
    def failed(self) -> bool:
        """Whether it says that there is no answer."""
        return self.message_type == "error_message" or self.error is not None


class LettaError(Exception):
    """Letta gave no answer: it is away, refused, failed, or took too long."""


@dataclass(frozen=True, kw_only=True)
class LettaClient:
    """What one worker asks of a Letta server."""

    url: str
    token: str = field(repr=False)
    name: str
    """Of the Letta agent: the oldest of that name is used, and it is made where there is none."""
    instructions: str
    model: str = ""
    """Its handle, such as ``openai/gpt-4.1-mini``; empty: the first one that Letta has a provider for."""

    async def agent_id(self, *, timeout_s: float = 10.0) -> str:
        """Return the id of the Letta agent, made if need be and moved to another model if its own is gone.

        ``NO_MODEL`` where Letta has no provider of models. Safe to call again and by several workers at once: they agree
        on the oldest agent of the name.
        """
        async with self._asking(timeout_s) as http:
            handles = [one.handle for one in await _read(http.get("/v1/models/"), list[_Model])]
            model = choose_model(handles, self.model)
            if model is None:
                return NO_MODEL
            agent = await self._oldest(http)
            if agent is None:
                await _read(http.post("/v1/agents/", json=self._description(model)), _LettaAgent)
                agent = await self._oldest(http)
            if agent is None:
                raise LettaError("the agent that Letta has just made is not listed")
            used = agent.llm_config.handle
            if used != model and (self.model or used not in handles):
                await _read(http.patch(f"/v1/agents/{agent.id}", json={"model": model}), _LettaAgent)
            return agent.id

    def conversation(self, agent_id: str) -> LettaConversation:
        """Return a new conversation; Letta hears of it with the first message."""
        return LettaConversation(self, agent_id)

    async def _oldest(self, http: aiohttp.ClientSession) -> _LettaAgent | None:
        asked = {"name": self.name, "tags": _TAG, "order": "asc", "order_by": "created_at", "limit": "1"}
        found = await _read(http.get("/v1/agents/", params=asked), list[_LettaAgent])
        return found[0] if found else None

    def _description(self, model: str) -> dict[str, object]:
        return {
            "name": self.name,
            "tags": [_TAG],
            "model": model,
            "memory_blocks": [
                {"label": "persona", "value": self.instructions},
                {"label": "human", "value": "Many people call; what one of them says is not for the others."},
            ],
        }

    @asynccontextmanager
    async def _asking(self, timeout_s: float) -> AsyncIterator[aiohttp.ClientSession]:
        """A session whose every failure is a ``LettaError``; ``timeout_s`` is for all that is asked in it."""
        headers = {"Authorization": f"Bearer {self.token}"}
        limits = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with aiohttp.ClientSession(
                self.url, headers=headers, timeout=limits, raise_for_status=True
            ) as session:
                yield session
        except aiohttp.ClientResponseError as error:
            raise LettaError(f"Letta answers {error.status}") from error
        except asyncio.TimeoutError:
            raise LettaError(f"Letta did not answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise LettaError(f"Letta can't be reached: {error}") from error
        except msgspec.MsgspecError as error:
            raise LettaError(f"Letta answers what is not expected: {error}") from error


class LettaConversation:
    """One call's messages: no other call sees them, while what the agent chose to remember is everybody's."""

    def __init__(self, client: LettaClient, agent_id: str) -> None:
        self._client = client
        self._agent_id = agent_id
        self._id = ""
        self._rests_until = 0.0

    async def answer(self, said: str, *, timeout_s: float = 10.0, retry_after_s: float = 15.0) -> str:
        """Return what Letta answers to ``said``.

        ``LettaError`` after ``timeout_s``, unless a part of the answer is there; and after a failure at once, for
        ``retry_after_s``: a caller waits once for a Letta that hangs, not in each turn.
        """
        if time.monotonic() < self._rests_until:
            raise LettaError("Letta failed a moment ago")
        heard: list[str] = []
        try:
            async with self._client._asking(timeout_s) as http:
                await self._ask(http, said, heard)
        except LettaError:
            self._rests_until = time.monotonic() + retry_after_s
            if not heard:
                raise
        return " ".join(heard)

    async def _ask(self, http: aiohttp.ClientSession, said: str, heard: list[str]) -> None:
        if not self._id:
            asking = http.post("/v1/conversations/", params={"agent_id": self._agent_id}, json={})
            self._id = (await _read(asking, _LettaTalk)).id
        message = {"messages": [{"role": "user", "content": said}]}
        async with http.post(f"/v1/conversations/{self._id}/messages", json=message) as response:
            async for line in response.content:
                event = event_of(line)
                if event is not None and event.message_type == "assistant_message":
                    heard.append(text_of(event.content))
                elif event is not None and event.failed:
                    raise LettaError("Letta could not get an answer of its model")
        if not any(heard):
            raise LettaError("Letta had nothing to say")


def choose_model(handles: list[str], wanted: str) -> str | None:
    """Return the model to use of those that Letta lists; None: there is none, or not the one that is wanted."""
    if wanted:
        return wanted if wanted in handles else None
    usable = [handle for handle in handles if not handle.startswith(_OWN_MODELS)]
    return next((one for one in _PREFERRED if one in usable), usable[0] if usable else None)


def event_of(line: bytes) -> LettaEvent | None:
    """Return one event of a stream (``data: {...}``); None for lines between events and for its end."""
    data = line.strip().removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
    return None if data in (b"", b"[DONE]") else msgspec.json.decode(data, type=LettaEvent)


def text_of(content: object) -> str:
    """Return the text of a message, which is a string or a list of parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict)).strip()
    return str(content or "").strip()


async def _read(asking: AbstractAsyncContextManager[aiohttp.ClientResponse], kind: type[T]) -> T:
    async with asking as response:
        return msgspec.json.decode(await response.read(), type=kind)
