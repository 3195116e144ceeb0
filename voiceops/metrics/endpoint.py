"""``GET /metrics`` on a port of its own, answered by threads: a scrape never waits for the monitor, nor it for a scrape."""

from __future__ import annotations

import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from voiceops.errors import ConfigError


class MetricsEndpoint:
    """Answers from the moment it is made until ``close()``; ``ConfigError`` where the address can't be used."""

    def __init__(self, registry: CollectorRegistry, *, address: str, port: int) -> None:
        try:
            started: tuple[WSGIServer, threading.Thread] = start_http_server(port, address, registry)
        except OSError as error:
            raise ConfigError(
                f"{address}:{port} can't be listened on: {error.strerror or error}",
                path="metrics.port",
                hint="give metrics.port another number, or metrics.address one of this host's addresses",
            ) from error
        self._server, self._thread = started
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2.0)
