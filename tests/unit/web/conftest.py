"""The page's server on a free port of loopback, in front of a LiveKit that is not there."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.support.parts import free_port
from voiceops.model.web import OPERATORS_TOKEN_ENV, WebSettings
from voiceops.web.assets import PAGE, Asset
from voiceops.web.server import serving_web
from voiceops.web.slow import Connections

KEY, SECRET = "key", "s" * 32
OPERATORS_TOKEN = "the-token-of-the-operators"

Serve = Callable[..., Awaitable["ServedPage"]]


class ServedPage:
    """One server, and a session to ask it."""

    def __init__(self, settings: WebSettings, session: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.session = session
        self.port = settings.port

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        json: object = None,
    ) -> aiohttp.client._RequestContextManager:
        url = f"http://127.0.0.1:{port or self.port}{path}"
        return self.session.request(method, url, json=json, headers=headers)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as opened:
        session = await opened.enter_async_context(aiohttp.ClientSession())

        async def start(*, headers_s: float = 10.0, most: int = 100, **changes: object) -> ServedPage:
            nowhere = f"ws://127.0.0.1:{free_port()}"
            values: dict[str, object] = {
                "port": free_port(),
                "livekit_url": nowhere,
                "browser_url": "wss://livekit.example.com",
                "client": "unused",
                "requests_per_minute": 6000.0,
                "requests_per_minute_total": 6000.0,
            }
            settings = WebSettings(**(values | changes))  # type: ignore[arg-type]
            keys = {
                "LIVEKIT_API_KEY": KEY,
                "LIVEKIT_API_SECRET": SECRET,
                OPERATORS_TOKEN_ENV: OPERATORS_TOKEN,
            }
            files = {"/": (PAGE / "index.html").read_bytes(), "/voiceops-client.js": b"export {}"}
            assets = {
                url: Asset(content, gzip.compress(content), "text/html", '"1"')
                for url, content in files.items()
            }
            await opened.enter_async_context(
                serving_web(settings, keys, assets, Connections(headers_s, most))
            )
            return ServedPage(settings, session)

        yield start
