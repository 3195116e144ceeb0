"""A small equipment-rental back office that misbehaves on request: the data source of the example.

python examples/rental/source.py --port 8700

GET  /equipment              what can be rented
POST /bookings               {"item": "digger"} books one
GET  /stats                  how often each was asked for
POST /switch                 {"delay_s": 0.4, "status": 429, "hang": true}; {} resets
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Source:
    """The stock, and how the source behaves."""

    stock: dict[str, int] = field(default_factory=lambda: {"digger": 2, "drill": 5, "tent": 1})
    prices: dict[str, int] = field(default_factory=lambda: {"digger": 120, "drill": 15, "tent": 60})
    requests: Counter[str] = field(default_factory=Counter)
    delay_s: float = 0.0
    status: int = 200
    hang: bool = False

    async def misbehave(self) -> web.Response | None:
        """Wait as told; an error to answer with, if told so."""
        await asyncio.sleep(3600 if self.hang else self.delay_s)
        return web.json_response({"error": "as asked"}, status=self.status) if self.status != 200 else None

    async def equipment(self, _request: web.Request) -> web.Response:
        self.requests["equipment"] += 1
        error = await self.misbehave()
        items = [
            {"item": item, "left": left, "price": self.prices[item]} for item, left in self.stock.items()
        ]
        return error or web.json_response(items)

    async def book(self, request: web.Request) -> web.Response:
        self.requests["bookings"] += 1
        error = await self.misbehave()
        if error is not None:
            return error
        item = str((await request.json()).get("item", ""))
        if self.stock.get(item, 0) < 1:
            return web.json_response({"error": "none left"}, status=409)
        self.stock[item] -= 1
        return web.json_response({"item": item, "left": self.stock[item]})

    async def stats(self, _request: web.Request) -> web.Response:
        return web.json_response(self.requests)

    async def switch(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        self.delay_s = float(wanted.get("delay_s", 0.0))
        self.status = int(wanted.get("status", 200))
        self.hang = bool(wanted.get("hang", False))
        return web.json_response({"delay_s": self.delay_s, "status": self.status, "hang": self.hang})


def application(source: Source) -> web.Application:
    """The source as a web application."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/equipment", source.equipment),
            web.post("/bookings", source.book),
            web.get("/stats", source.stats),
            web.post("/switch", source.switch),
        ]
    )
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The data source of the rental example.")
    parser.add_argument("--port", type=int, default=8700)
    web.run_app(application(Source()), host="127.0.0.1", port=parser.parse_args().port)
