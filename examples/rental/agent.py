"""An equipment rental on the phone, whose data comes from a slow and sometimes failing source.

Whatever the source does, every call is answered: the data are cached for all calls, a
source that fails is covered by the last good answer, and one that never answered by a
fallback that the caller hears. Set RENTAL_URL (default: http://127.0.0.1:8700).
"""

from __future__ import annotations

import asyncio
import os
from typing import TypedDict

import aiohttp
from livekit.agents import Agent, AgentServer, JobContext, StopResponse, cli, function_tool, llm

from voiceops.agentkit import Call, cached, guarded_entrypoint, heard, speech_from_environment

URL = os.environ.get("RENTAL_URL", "http://127.0.0.1:8700")
FALLBACK_GREETING = (
    "Hello, this is the equipment rental. I can't see our stock right now, "
    "but I take your wish and we call you back."
)

server = AgentServer()
speech = speech_from_environment()


class Item(TypedDict):
    """One line of the stock."""

    item: str
    left: int
    price: int


# 1.5 s, not the usual 3: connecting, session and greeting take another second, and nobody waits for four.
PATIENCE_S = 1.5


@cached(ttl_s=30, timeout_s=PATIENCE_S)
async def equipment() -> list[Item]:
    """The stock. The source sees one request in 30 s, however many call; and while it fails or hangs,
    one in 5 s: only the caller behind that one waits, the others hear the last stock or the fallback."""
    async with _client(10) as http, http.get(f"{URL}/equipment") as answer:
        items: list[Item] = await answer.json()
        return items


async def book(item: str) -> int:
    """Book one; returns how many are left. The next caller hears of it: the cache is emptied."""
    async with _client(3) as http, http.post(f"{URL}/bookings", json={"item": item}) as answer:
        left = int((await answer.json())["left"])
    await equipment.invalidate()
    return left


def _client(timeout_s: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(raise_for_status=True, timeout=aiohttp.ClientTimeout(total=timeout_s))


def greeting(stock: list[Item] | None) -> str:
    """What the caller hears first."""
    if stock is None:
        return FALLBACK_GREETING
    offers = [
        f"{item['left']} {item['item']}s at {item['price']} euros a day" for item in stock if item["left"]
    ]
    if not offers:
        return "Hello, this is the equipment rental. Everything is rented out today."
    offer = "Say yes, and I book the first for you." if speech.offline else "What can I book for you?"
    return f"Hello, this is the equipment rental. Today we have {', '.join(offers)}. {offer}"


class Clerk(Agent):
    """Books equipment: by tools with a language model, by a script without one."""

    def __init__(self, stock: list[Item] | None) -> None:
        super().__init__(
            instructions="You are the clerk of an equipment rental on the phone. Answer in one short "
            f"sentence. The stock is: {stock or 'unknown at the moment; take the wish, promise a call back'}."
        )
        self._stock = stock

    async def on_enter(self) -> None:
        self.session.say(greeting(self._stock))

    @function_tool
    async def book_equipment(self, item: str) -> str:
        """Book one piece of equipment for the caller.

        Args:
            item: Its name as in the stock.
        """
        return await self._book(item)

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        if heard(self.session) is None:
            return  # the model answers
        free = next((item["item"] for item in self._stock or [] if item["left"]), None)
        self.session.say(await self._book(free) if free else "I noted your wish. We call you back.")
        raise StopResponse

    async def _book(self, item: str) -> str:
        try:
            left = await book(item)
        except (aiohttp.ClientError, asyncio.TimeoutError):
            return f"I can't book the {item} right now. I noted your wish, and we call you back."
        self._stock = [{**line, "left": left} if line["item"] == item else line for line in self._stock or []]
        return f"The {item} is booked for you. {left} left."


@server.rtc_session()
@guarded_entrypoint(load=equipment, fallback=None, load_timeout_s=PATIENCE_S)
async def entrypoint(ctx: JobContext, call: Call[list[Item] | None]) -> None:
    """One call; ``call.data`` is the stock, or None when the source did not answer in time."""
    await call.start(speech.session(), Clerk(call.data))


if __name__ == "__main__":
    cli.run_app(server)
