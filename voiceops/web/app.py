"""The routes of the page and its API."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar, Union
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from voiceops.adapters.livekit.endpoint import http_base
from voiceops.errors import CredentialsError, VoiceopsError
from voiceops.model.web import WebSettings
from voiceops.web.assets import LIBRARY, Asset
from voiceops.web.causes import Causes
from voiceops.web.dashboard import HEADERS as DASHBOARD_HEADERS
from voiceops.web.dashboard import PATH as DASHBOARD
from voiceops.web.dashboard import Dashboard, LoginRequest
from voiceops.web.limits import RateLimit
from voiceops.web.operator_commands import ActionRequest
from voiceops.web.operators import HERE, Operators
from voiceops.web.peer_user import is_same_user
from voiceops.web.refusal import RequestRefused
from voiceops.web.requester import FORWARDED, Requester, is_loopback_name, requester
from voiceops.web.sessions import Sessions
from voiceops.web.slow import Connections

log = logging.getLogger(__name__)

MOST_BYTES = 16_384
BODY_S = 5.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


Ticket = Annotated[str, msgspec.Meta(min_length=16, max_length=64)]


class SessionRequest(msgspec.Struct, frozen=True):
    """Body of ``/api/session``; it may have none."""

    ticket: Union[Ticket, None] = None
    """Made up by the page: with it, it can end the session before it knows the token."""


class TokenRequest(msgspec.Struct, frozen=True):
    """Body of ``/api/token``."""

    token: str


class EndRequest(msgspec.Struct, frozen=True):
    """Body of ``/api/end``."""

    token: str = ""
    ticket: Union[Ticket, None] = None
    unanswered: bool = False


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


class WebApp:
    """Handlers of one server."""

    def __init__(
        self,
        settings: WebSettings,
        assets: Mapping[str, Asset],
        sessions: Sessions,
        causes: Causes,
        connections: Connections,
        *,
        operators: Operators,
        dashboard: Dashboard | None = None,
    ) -> None:
        self._settings = settings
        self._assets = assets
        self._sessions = sessions
        self._causes = causes
        self._connections = connections
        self._operators = operators
        self._dashboard = dashboard
        self._limit = RateLimit(settings.requests_per_minute, settings.requests_per_minute_total)
        self.metrics = WebMetrics.of(connections)
        self._page_headers = page_headers(settings.browser_url)

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=MOST_BYTES, middlewares=[self._middleware])
        for url in self._assets.keys() - {DASHBOARD}:
            app.router.add_get(url, self._asset)
        app.router.add_post("/api/session", self._session)
        app.router.add_post("/api/token", self._token)
        app.router.add_post("/api/end", self._end)
        app.router.add_get("/api/why", self._why)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        if self._dashboard is not None:
            app.router.add_get(DASHBOARD, self._dashboard_page)
            app.router.add_get(f"{DASHBOARD}/session", self._dashboard_session)
            app.router.add_post(f"{DASHBOARD}/session", self._dashboard_login)
            app.router.add_get(f"{DASHBOARD}/events", self._dashboard_events)
            app.router.add_post(f"{DASHBOARD}/actions", self._dashboard_action)
            app.router.add_post(f"{DASHBOARD}/diagnosis", self._dashboard_diagnosis)
        return app

    # -- what holds for every request ---------------------------------------

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._connections.request_began(request.transport)
        asking = self._requester(request)
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
        if request.path in LIBRARY and self._settings.origins:
            # A plain <script src> names no origin; what it gets is no secret.
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        if origin in self._settings.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Vary"] = "Origin, Accept-Encoding"
        return response

    def _requester(self, request: web.Request) -> Requester:
        # Several lines of one header are one list (RFC 9110, 5.3): the first line alone could be anybody's.
        headers = {
            name: ", ".join(request.headers.getall(name)) for name in FORWARDED if name in request.headers
        }
        return requester(request.remote or "", request.host, headers, self._settings.trusted_proxies)

    def _check(self, request: web.Request, asking: Requester, origin: str) -> None:
        own = self._settings
        loopback_only = is_loopback_name(own.address)
        if loopback_only and asking.direct and not is_loopback_name(asking.host):
            # Somebody's DNS name that points here: its pages would count as our own.
            raise RequestRefused(421, "wrong-host", "This page is served on this machine only.")
        if origin and origin.lower() != asking.origin and origin not in own.origins:
            raise RequestRefused(403, "wrong-origin", "Pages of this origin may not use the API.")
        local = request.transport.get_extra_info("sockname") if request.transport else None
        if (
            local
            and local[1] == own.cors_port
            and not (request.path.startswith("/api/") or request.path in LIBRARY)
        ):
            raise RequestRefused(404, "not-found", "There is nothing here.")

    def _count(self, request: web.Request) -> None:
        asking = self._requester(request)
        wait_s = self._limit.wait_s(asking.address)
        if wait_s:
            raise RequestRefused(
                429, "too-many", "Too many requests: wait a moment.", {"Retry-After": str(int(wait_s) + 1)}
            )

    async def _body(self, request: web.Request, kind: type[T]) -> T:
        try:
            raw = await asyncio.wait_for(request.read(), BODY_S)
            self._connections.request_began(request.transport)
            return msgspec.json.decode(raw, type=kind)
        except asyncio.TimeoutError:
            raise RequestRefused(408, "too-slow", "The request took too long.") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RequestRefused(400, "bad-request", "This is not the JSON that is expected here.") from None

    def _is_operator(self, request: web.Request) -> bool:
        return bool(self._operators.known(self._requester(request), request.headers))

    # -- routes ---------------------------------------------------------------

    async def _asset(self, request: web.Request) -> web.Response:
        asset = self._assets[request.path]
        headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == asset.etag:
            return web.Response(status=304, headers=headers)
        compressed = "gzip" in request.headers.get("Accept-Encoding", "")
        if compressed:
            headers["Content-Encoding"] = "gzip"
        body = asset.compressed if compressed else asset.content
        return web.Response(body=body, content_type=asset.content_type, charset="utf-8", headers=headers)

    async def _session(self, request: web.Request) -> web.Response:
        self._count(request)
        asked = await self._body(request, SessionRequest) if request.can_read_body else SessionRequest()
        began = time.monotonic()
        try:
            session = await self._sessions.make(asked.ticket)
        except VoiceopsError:
            self.metrics.sessions.labels("failed").inc()
            raise
        self.metrics.sessions.labels("made").inc()
        if request.transport is None or request.transport.is_closing():
            # The page was closed or loaded again meanwhile: nobody else will ever know of this room.
            self._sessions.end(session.token)
        self.metrics.session_s.observe(time.monotonic() - began)
        return _json(session)

    async def _token(self, request: web.Request) -> web.Response:
        self._count(request)
        asked = await self._body(request, TokenRequest)
        try:
            return _json(self._sessions.renew(asked.token))
        except CredentialsError:
            raise RequestRefused(401, "wrong-token", "The token is not valid.") from None

    async def _end(self, request: web.Request) -> web.Response:
        self._count(request)
        asked = await self._body(request, EndRequest)
        if asked.ticket and not asked.token:
            self._sessions.end_by_ticket(asked.ticket)
            return web.Response(status=202)
        try:
            self._sessions.end(asked.token, unanswered=asked.unanswered)
        except CredentialsError:
            raise RequestRefused(401, "wrong-token", "The token is not valid.") from None
        return web.Response(status=202)

    async def _why(self, request: web.Request) -> web.Response:
        self._count(request)
        operator = self._is_operator(request)
        may_report = operator and self._causes.can_report
        found = await self._causes.find(for_operator=operator)
        if may_report and "report" in request.query:
            found += await self._causes.report()
        return _json({"findings": found, "report": may_report})

    async def _health(self, request: web.Request) -> web.Response:
        cause = await self._causes.server()
        return _json({"ok": cause is None, "livekit": cause.code if cause else "ok"}, 503 if cause else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self._is_operator(request):
            raise RequestRefused(403, "operators-only", "Metrics are for the operators.")
        text = generate_latest(self.metrics.registry)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    # -- the dashboard ----------------------------------------------------------

    @property
    def _the_dashboard(self) -> Dashboard:
        assert self._dashboard is not None, "its routes exist with it only"
        return self._dashboard

    def _operator(self, request: web.Request) -> str:
        """Who of the operators asks; on this machine the stack's own user and root."""
        who = self._operators.known(self._requester(request), request.headers)
        peer = request.transport.get_extra_info("peername") if request.transport else None
        return who if who != HERE or (peer and is_same_user(peer[:2])) else ""

    async def _dashboard_page(self, request: web.Request) -> web.Response:
        if self._operator(request):
            self._the_dashboard.opened()
        elif not self._operators.can_log_in:
            raise RequestRefused(403, "operators-only", "The dashboard is for this machine's operators.")
        return await self._asset(request)

    async def _dashboard_session(self, request: web.Request) -> web.Response:
        return _json({"operator": bool(self._operator(request)), "can_log_in": self._operators.can_log_in})

    async def _dashboard_login(self, request: web.Request) -> web.Response:
        self._count(request)
        asked = await self._body(request, LoginRequest)
        return self._the_dashboard.log_in(self._requester(request), asked.token)

    async def _dashboard_events(self, request: web.Request) -> web.StreamResponse:
        self._the_dashboard.require(self._requester(request), request.headers, self._operator(request))
        return await self._the_dashboard.events(request)

    async def _dashboard_action(self, request: web.Request) -> web.Response:
        self._count(request)
        who = self._operator(request)
        self._the_dashboard.require_to_act(self._requester(request), request.headers, who)
        asked = await self._body(request, ActionRequest)
        return _json(self._the_dashboard.begin(asked, by=who), 202)

    async def _dashboard_diagnosis(self, request: web.Request) -> web.Response:
        self._count(request)
        self._the_dashboard.require_to_act(self._requester(request), request.headers, self._operator(request))
        self._the_dashboard.diagnose()
        return web.Response(status=202)


def page_headers(browser_url: str) -> dict[str, str]:
    """Return the headers that every answer has; ``browser_url`` is the one other address that the page connects to."""
    base = http_base(browser_url)
    socket = base.replace("http", "ws", 1)
    host = f"{urlsplit(base).scheme}://{urlsplit(base).netloc}"
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "media-src": "'self' blob: mediastream:",
        "connect-src": f"'self' {host} {urlsplit(socket).scheme}://{urlsplit(socket).netloc}",
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


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _error(status: int, code: str, text: str) -> web.Response:
    return _json({"error": code, "message": text}, status)
