"""What every server of pages does with a request: who asks, from which page, how often, and what its answer has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from voiceops.adapters.livekit.endpoint import http_base
from voiceops.errors import VoiceopsError
from voiceops.model.web import ServerSettings
from voiceops.web.assets import LIBRARY, Asset
from voiceops.web.dashboard import HEADERS as DASHBOARD_HEADERS
from voiceops.web.dashboard import PATH as DASHBOARD
from voiceops.web.limits import RateLimit
from voiceops.web.refusal import RequestRefused
from voiceops.web.requester import FORWARDED, Requester, is_loopback_name, requester
from voiceops.web.slow import Connections

log = logging.getLogger(__name__)

MOST_BYTES = 16_384
BODY_S = 5.0
END = "/api/end"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class WebMetrics:
    """Counts for Prometheus; no label identifies anybody."""

    registry: CollectorRegistry
    requests: Counter
    refused: Counter
    sessions: Counter
    session_s: Histogram

    @classmethod
    def of(cls, connections: Connections) -> WebMetrics:
        """Register them."""
        registry = CollectorRegistry()
        opened = Gauge("voiceops_web_connections", "Open connections", registry=registry)
        opened.set_function(lambda: len(connections.open))
        aborted = Gauge(
            "voiceops_web_connections_aborted", "Connections too slow or too many", registry=registry
        )
        aborted.set_function(lambda: connections.aborted_count)
        return cls(
            registry=registry,
            requests=Counter(
                "voiceops_web_requests", "Requests answered", ["route", "status"], registry=registry
            ),
            refused=Counter("voiceops_web_refused", "Requests refused", ["reason"], registry=registry),
            sessions=Counter("voiceops_web_sessions", "Sessions asked for", ["result"], registry=registry),
            session_s=Histogram("voiceops_web_session_seconds", "Time to make a room", registry=registry),
        )


class HttpApp:
    """Its files, and what holds for every request; routes come on top."""

    def __init__(
        self,
        settings: ServerSettings,
        assets: Mapping[str, Asset],
        connections: Connections,
        *,
        browser_url: str = "",
    ) -> None:
        self._server = settings
        self._assets = assets
        self._connections = connections
        self._limit = RateLimit(settings.requests_per_minute, settings.requests_per_minute_total)
        self.metrics = WebMetrics.of(connections)
        self._page_headers = page_headers(browser_url)

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=MOST_BYTES, middlewares=[self._middleware])
        for url in self._assets.keys() - {DASHBOARD}:
            app.router.add_get(url, self.asset)
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._connections.request_began(request.transport)
        asking = self.requester(request)
        origin = request.headers.get("Origin", "")
        try:
            self._check(request, asking, origin)
            if request.method == "OPTIONS":
                response: web.StreamResponse = web.Response(status=204)
                response.headers["Access-Control-Allow-Methods"] = "GET, POST"
                response.headers["Access-Control-Allow-Headers"] = "Content-Type"
                response.headers["Access-Control-Max-Age"] = "600"
            else:
                response = await handler(request)
        except RequestRefused as refused:
            self.metrics.refused.labels(refused.code).inc()
            response = _error(refused.status, refused.code, refused.text)
            response.headers.update(refused.headers)
        except web.HTTPException as error:
            response = _error(error.status, error.reason.lower().replace(" ", "-"), error.reason)
        except VoiceopsError as error:
            log.warning("a request failed", extra={"error": type(error).__name__})
            response = _error(503, "server-unavailable", "The voice server can't take the call now.")
        resource = request.match_info.route.resource
        self.metrics.requests.labels(resource.canonical if resource else "none", response.status).inc()
        if response.prepared:
            return response  # of events, which have ended
        response.headers.update(self._page_headers)
        if request.path == DASHBOARD or request.path.startswith(f"{DASHBOARD}/"):
            response.headers.update(DASHBOARD_HEADERS)
            response.headers["Vary"] = "Origin, Cookie, Accept-Encoding"
            return response
        if request.path in LIBRARY and self._server.origins:
            # A plain <script src> names no origin; what it gets is no secret.
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        if origin in self._server.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Vary"] = "Origin, Accept-Encoding"
        return response

    def requester(self, request: web.Request) -> Requester:
        """Return who asks."""
        # Several lines of one header are one list (RFC 9110, 5.3): the first line alone could be anybody's.
        headers = {
            name: ", ".join(request.headers.getall(name)) for name in FORWARDED if name in request.headers
        }
        return requester(request.remote or "", request.host, headers, self._server.trusted_proxies)

    def _check(self, request: web.Request, asking: Requester, origin: str) -> None:
        own = self._server
        loopback_only = is_loopback_name(own.address)
        if loopback_only and asking.direct and not is_loopback_name(asking.host):
            # Somebody's DNS name that points here: its pages would count as our own.
            raise RequestRefused(421, "wrong-host", "This page is served on this machine only.")
        # A beacon of a page without referrers names no origin in Firefox (Fetch, 3.2); its token says whose session it is.
        unnamed = origin == "null" and request.path == END
        if origin and not unnamed and origin.lower() != asking.origin and origin not in own.origins:
            raise RequestRefused(403, "wrong-origin", "Pages of this origin may not use the API.")
        local = request.transport.get_extra_info("sockname") if request.transport else None
        if (
            local
            and local[1] == own.cors_port
            and not (request.path.startswith("/api/") or request.path in LIBRARY)
        ):
            raise RequestRefused(404, "not-found", "There is nothing here.")

    def count(self, request: web.Request) -> None:
        """Count a request against the limits; ``RequestRefused`` beyond them."""
        asking = self.requester(request)
        wait_s = self._limit.wait_s(asking.address)
        if wait_s:
            raise RequestRefused(
                429, "too-many", "Too many requests: wait a moment.", {"Retry-After": str(int(wait_s) + 1)}
            )

    async def body(self, request: web.Request, kind: type[T]) -> T:
        """Read a body of JSON within the time that it may take; ``RequestRefused`` for any other."""
        try:
            raw = await asyncio.wait_for(request.read(), BODY_S)
            self._connections.request_began(request.transport)
            return msgspec.json.decode(raw, type=kind)
        except asyncio.TimeoutError:
            raise RequestRefused(408, "too-slow", "The request took too long.") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RequestRefused(400, "bad-request", "This is not the JSON that is expected here.") from None

    async def asset(self, request: web.Request) -> web.Response:
        """Answer with one of the listed files."""
        asset = self._assets[request.path]
        headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == asset.etag:
            return web.Response(status=304, headers=headers)
        compressed = "gzip" in request.headers.get("Accept-Encoding", "")
        if compressed:
            headers["Content-Encoding"] = "gzip"
        body = asset.compressed if compressed else asset.content
        return web.Response(body=body, content_type=asset.content_type, charset="utf-8", headers=headers)


def page_headers(browser_url: str = "") -> dict[str, str]:
    """Return the headers that every answer has; ``browser_url`` is the one other address that the page connects to."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "media-src": "'self' blob: mediastream:",
        "connect-src": " ".join(("'self'", *_addresses(browser_url))),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Server": "voiceops",
    }


def _addresses(browser_url: str) -> tuple[str, ...]:
    if not browser_url:
        return ()
    base = http_base(browser_url)
    socket = base.replace("http", "ws", 1)
    return tuple(f"{urlsplit(one).scheme}://{urlsplit(one).netloc}" for one in (base, socket))


def json_response(value: object, status: int = 200) -> web.Response:
    """Answer with JSON that nobody stores."""
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _error(status: int, code: str, text: str) -> web.Response:
    return json_response({"error": code, "message": text}, status)
