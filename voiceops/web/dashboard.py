"""The dashboard's routes: ``/ops``, its events, and the buttons' requests. For operators only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
from aiohttp import web

from voiceops.errors import StorageError
from voiceops.model.web import DashboardSettings
from voiceops.web.audit import AuditLog
from voiceops.web.feed import DashboardFeed, TooManyWatchersError
from voiceops.web.operator_commands import ActionRefusedError, ActionRequest, OperatorCommands
from voiceops.web.operators import COOKIE, SESSION_S, Operators
from voiceops.web.refusal import RequestRefused
from voiceops.web.requester import Requester, is_loopback_name

PATH = "/ops"
_WRITE_S = 10.0
"""A browser that takes no event within so long is sent away."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'",
    "Permissions-Policy": "microphone=(), camera=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Stricter than the page's: no text of anybody's becomes HTML, whatever the page's own code does."""


class LoginRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /ops/session``."""

    token: str


class Dashboard:
    """What operators ask for; each method answers one request that was found to be theirs."""

    def __init__(self, settings: DashboardSettings, operators: Operators) -> None:
        self._operators = operators
        self._feed = DashboardFeed(settings.feed)
        self._commands = OperatorCommands(settings, self._feed, AuditLog(Path(settings.audit_log)))

    def require(self, asking: Requester, headers: Mapping[str, str], who: str) -> None:
        """``RequestRefused`` for all but operators (``who`` is empty), and for pages that are not ours."""
        # A browser says from which page a request comes: no other page may make this one's user do anything.
        if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise RequestRefused(403, "wrong-origin", "Only the dashboard itself may ask this.")
        if headers.get("Origin", asking.origin).lower() != asking.origin:
            raise RequestRefused(403, "wrong-origin", "Only the dashboard itself may ask this.")
        if not who:
            raise RequestRefused(401, "operators-only", "The dashboard is for the operators.")

    def require_to_act(self, asking: Requester, headers: Mapping[str, str], who: str) -> None:
        """As ``require``; ``RequestRefused`` also where a form of another page could have sent it."""
        self.require(asking, headers, who)
        said_origin = "Origin" in headers or headers.get("Authorization", "").startswith("Bearer ")
        if not said_origin or not headers.get("Content-Type", "").startswith("application/json"):
            raise RequestRefused(403, "wrong-origin", "Only the dashboard itself may ask this.")

    def opened(self) -> None:
        """The page is being loaded: its events will be asked for."""
        self._feed.warm()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Send changes as server-sent events until the browser leaves or this process ends."""
        response = web.StreamResponse(headers={**HEADERS, "Cache-Control": "no-store", "Vary": "Cookie"})
        response.content_type = "text/event-stream"
        try:
            with self._feed.watching() as queue:
                await response.prepare(request)
                await response.write(b"retry: 1000\n\n")
                self._commands.diagnose()
                self._commands.follow()
                while (message := await queue.get()) is not None:
                    await asyncio.wait_for(response.write(message), _WRITE_S)
        except TooManyWatchersError:
            raise RequestRefused(
                429, "too-many", "Too many dashboards are open.", {"Retry-After": "10"}
            ) from None
        except asyncio.TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # it has left
        return response

    def begin(self, request: ActionRequest, *, by: str) -> Mapping[str, str]:
        """Begin a command; ``RequestRefused`` where it is not begun."""
        try:
            return {"id": self._commands.begin(request, by=by)}
        except ActionRefusedError as error:
            raise RequestRefused(error.status, error.code, error.text) from None
        except StorageError as error:
            raise RequestRefused(503, "audit-log", f"Nothing was done: {error.message}.") from None

    def diagnose(self) -> None:
        """Look for findings again."""
        self._commands.diagnose()

    def log_in(self, asking: Requester, token: str) -> web.Response:
        """Answer with a cookie; ``RequestRefused`` for a wrong token, and where others could read it on the way."""
        if asking.scheme != "https" and not is_loopback_name(asking.host):
            raise RequestRefused(
                403,
                "not-https",
                "Open the dashboard by https, or by `ssh -L`: here others could read the token.",
            )
        if not self._operators.accepts(token):
            raise RequestRefused(401, "wrong-token", "This is not the operators' token.")
        response = web.Response(status=204)
        response.set_cookie(
            COOKIE,
            self._operators.new_session(),
            max_age=int(SESSION_S),
            path=PATH,
            httponly=True,
            samesite="Strict",
            secure=asking.scheme == "https",
        )
        return response

    async def close(self) -> None:
        """End the events, or they would hold the server."""
        await self._commands.close()
        await self._feed.close()
