"""The rental example as one writes it without agentkit: fetch the stock, then answer."""

from __future__ import annotations

import os

import aiohttp
from livekit.agents import Agent, AgentServer, JobContext, cli

from voiceops.agentkit import speech_from_environment

URL = os.environ.get("RENTAL_URL", "http://127.0.0.1:8700")

server = AgentServer(
    host="127.0.0.1", port=0, load_fnc=lambda *_: 0.0, load_threshold=float("inf"), drain_timeout=0
)
speech = speech_from_environment()


class Clerk(Agent):
    """Says what can be rented."""

    def __init__(self, stock: list[dict[str, object]]) -> None:
        super().__init__(instructions=f"You are the clerk of an equipment rental. The stock is: {stock}")
        self._stock = stock

    async def on_enter(self) -> None:
        offers = ", ".join(f"{line['left']} {line['item']}s" for line in self._stock)
        self.session.say(f"Hello, this is the equipment rental. Today we have {offers}.")


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    async with aiohttp.ClientSession(raise_for_status=True) as http, http.get(f"{URL}/equipment") as answer:
        stock = await answer.json()
    await speech.session().start(Clerk(stock), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
