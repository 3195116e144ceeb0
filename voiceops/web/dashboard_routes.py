"""The dashboard's routes, beside those of the page or alone."""

from __future__ import annotations

from aiohttp import web

from voiceops.web.dashboard import PATH, Dashboard, LoginRequest
from voiceops.web.http_app import HttpApp, json_response
from voiceops.web.operator_commands import ActionRequest
from voiceops.web.operators import HERE, Operators
from voiceops.web.peer_user import is_same_user
from voiceops.web.refusal import RequestRefused


class DashboardRoutes:
    """Handlers of ``/ops``, which know who of the operators asks."""

    def __init__(self, app: HttpApp, dashboard: Dashboard, operators: Operators) -> None:
        self._app = app
        self._dashboard = dashboard
        self._operators = operators

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get(PATH, self._page)
        router.add_get(f"{PATH}/session", self._session)
        router.add_post(f"{PATH}/session", self._login)
        router.add_get(f"{PATH}/events", self._events)
        router.add_post(f"{PATH}/actions", self._action)
        router.add_post(f"{PATH}/diagnosis", self._diagnosis)

    def _operator(self, request: web.Request) -> str:
        """Who of the operators asks; on this machine the stack's own user and root."""
        who = self._operators.known(self._app.requester(request), request.headers)
        peer = request.transport.get_extra_info("peername") if request.transport else None
        return who if who != HERE or (peer and is_same_user(peer[:2])) else ""

    async def _page(self, request: web.Request) -> web.Response:
        if self._operator(request):
            self._dashboard.opened()
        elif not self._operators.can_log_in:
            raise RequestRefused(403, "operators-only", "The dashboard is for this machine's operators.")
        return await self._app.asset(request)

    async def _session(self, request: web.Request) -> web.Response:
        return json_response(
            {"operator": bool(self._operator(request)), "can_log_in": self._operators.can_log_in}
        )

    async def _login(self, request: web.Request) -> web.Response:
        self._app.count(request)
        asked = await self._app.body(request, LoginRequest)
        return self._dashboard.log_in(self._app.requester(request), asked.token)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._dashboard.require(self._app.requester(request), request.headers, self._operator(request))
        return await self._dashboard.events(request)

    async def _action(self, request: web.Request) -> web.Response:
        self._app.count(request)
        who = self._operator(request)
        self._dashboard.require_to_act(self._app.requester(request), request.headers, who)
        asked = await self._app.body(request, ActionRequest)
        return json_response(self._dashboard.begin(asked, by=who), 202)

    async def _diagnosis(self, request: web.Request) -> web.Response:
        self._app.count(request)
        self._dashboard.require_to_act(self._app.requester(request), request.headers, self._operator(request))
        self._dashboard.diagnose()
        return web.Response(status=202)
