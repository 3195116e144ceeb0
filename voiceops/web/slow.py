"""Connections that are held without a whole request: they are closed, and there are never too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

HEADERS_S = 10.0
"""How long the headers of a request may take; aiohttp itself waits for ever."""
MOST_CONNECTIONS = 2000


class Connections:
    """All open connections of the server."""

    def __init__(self, headers_s: float = HEADERS_S, most: int = MOST_CONNECTIONS) -> None:
        self.headers_s = headers_s
        self.most = most
        self.open: dict[asyncio.BaseTransport, TimedConnection] = {}
        self.aborted_count = 0
        """Connections that were ended for their slowness or number."""

    def factory(self, handler: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Return what makes the protocol of each connection around that of ``handler``."""
        return lambda: TimedConnection(handler(), self)

    def request_began(self, transport: asyncio.BaseTransport | None) -> None:
        """The headers have come: the request may take the time that its handler takes."""
        if transport is not None and transport in self.open:
            self.open[transport].stop_timer()


class TimedConnection(asyncio.Protocol):
    """Passes everything on to aiohttp's protocol, and ends the connection when a request's headers take too long."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._all = connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._inner.connection_made(transport)
        self._all.open[transport] = self
        if len(self._all.open) > self._all.most:
            self._abort()
            return
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        # After an answer the next request begins with its first byte; in between aiohttp's keepalive counts.
        if self._timer is None:
            self._start_timer()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_timer()
        if self._transport is not None:
            self._all.open.pop(self._transport, None)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def stop_timer(self) -> None:
        """No request's headers are awaited any more; safe to call again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._all.headers_s, self._abort)

    def _abort(self) -> None:
        self._all.aborted_count += 1
        self.stop_timer()
        if self._transport is not None:
            self._transport.abort()
