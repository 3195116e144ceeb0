"""The routes of the page and its API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Union

import msgspec
from aiohttp import web
from prometheus_client import generate_latest

from voiceops.errors import CredentialsError, VoiceopsError
from voiceops.model.web import WebSettings
from voiceops.web.assets import Asset
from voiceops.web.causes import Causes
from voiceops.web.dashboard import PATH as DASHBOARD
from voiceops.web.dashboard import Dashboard
from voiceops.web.dashboard_routes import DashboardRoutes
from voiceops.web.http_app import END, HttpApp, json_response
from voiceops.web.operators import Operators
from voiceops.web.refusal import RequestRefused
from voiceops.web.sessions import Sessions
from voiceops.web.slow import Connections

Ticket = Annotated[str, msgspec.Meta(min_length=16, max_length=64)]


class SessionRequest(msgspec.Struct, frozen=True):
    """Body of ``/api/session``; it may have none."""

    ticket: Union[Ticket, None] = None
    """Made up by the page: with it, it can end the session before it knows the token."""


class TokenRequest(msgspec.Struct, frozen=True):
    """Body of ``/api/token``."""

    token: str


class EndRequest(msgspec.Struct, frozen=True):
    """Body of ``/api/end``, which a closing page sends as a beacon."""

    token: str = ""
    ticket: Union[Ticket, None] = None
    unanswered: bool = False


class WebApp(HttpApp):
    """The page and its API; ``dashboard``: also what operators see."""

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
        super().__init__(settings, assets, connections, browser_url=settings.browser_url)
        self._sessions = sessions
        self._causes = causes
        self._operators = operators
        self._dashboard = dashboard

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = super().application()
        app.router.add_post("/api/session", self._session)
        app.router.add_post("/api/token", self._token)
        app.router.add_post(END, self._end)
        app.router.add_get("/api/why", self._why)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        if self._dashboard is not None:
            DashboardRoutes(self, self._dashboard, self._operators).add_to(app.router)
        else:
            app.router.add_get(DASHBOARD, self._no_dashboard)
        return app

    # -- routes ---------------------------------------------------------------

    async def _no_dashboard(self, request: web.Request) -> web.Response:
        raise RequestRefused(
            404,
            "elsewhere",
            "The dashboard of a server is opened from where its inventory is: `inv open --ops --host NAME`.",
        )

    async def _session(self, request: web.Request) -> web.Response:
        self.count(request)
        asked = await self.body(request, SessionRequest) if request.can_read_body else SessionRequest()
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
        return json_response(session)

    async def _token(self, request: web.Request) -> web.Response:
        self.count(request)
        asked = await self.body(request, TokenRequest)
        try:
            return json_response(self._sessions.renew(asked.token))
        except CredentialsError:
            raise RequestRefused(401, "wrong-token", "The token is not valid.") from None

    async def _end(self, request: web.Request) -> web.Response:
        self.count(request)
        asked = await self.body(request, EndRequest)
        if asked.ticket and not asked.token:
            self._sessions.end_by_ticket(asked.ticket)
            return web.Response(status=202)
        try:
            self._sessions.end(asked.token, unanswered=asked.unanswered)
        except CredentialsError:
            raise RequestRefused(401, "wrong-token", "The token is not valid.") from None
        return web.Response(status=202)

    async def _why(self, request: web.Request) -> web.Response:
        self.count(request)
        operator = self._is_operator(request)
        may_report = operator and self._causes.can_report
        found = await self._causes.find(for_operator=operator)
        if may_report and "report" in request.query:
            found += await self._causes.report()
        return json_response({"findings": found, "report": may_report})

    async def _health(self, request: web.Request) -> web.Response:
        cause = await self._causes.server()
        return json_response(
            {"ok": cause is None, "livekit": cause.code if cause else "ok"}, 503 if cause else 200
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self._is_operator(request):
            raise RequestRefused(403, "operators-only", "Metrics are for the operators.")
        text = generate_latest(self.metrics.registry)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _is_operator(self, request: web.Request) -> bool:
        return bool(self._operators.known(self.requester(request), request.headers))
