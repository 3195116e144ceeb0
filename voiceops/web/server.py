"""The process of the page: listens, reports that it is ready, ends at a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiohttp import web

from voiceops.adapters.livekit.api import LivekitApi
from voiceops.agentkit.notify import Notifier
from voiceops.errors import ConfigError
from voiceops.model.secret import Secret
from voiceops.model.web import (
    OPERATORS_TOKEN_ENV,
    SETTINGS_ENV,
    DashboardSettings,
    ServerSettings,
    WebSettings,
)
from voiceops.web.app import WebApp
from voiceops.web.assets import Asset, dashboard_assets, load_assets
from voiceops.web.causes import Causes
from voiceops.web.dashboard import Dashboard
from voiceops.web.dashboard_routes import DashboardRoutes
from voiceops.web.http_app import HttpApp
from voiceops.web.operators import Operators
from voiceops.web.sessions import Sessions
from voiceops.web.slow import Connections

_KEEPALIVE_S = 30.0
_LINGER_S = 1.0
"""How long the rest of a body that was refused is read, so that the answer arrives."""
_BACKLOG = 512
_OPERATOR_REQUESTS = 600.0
"""Each minute: a dashboard on loopback is for one person."""


def settings_from(environment: Mapping[str, str]) -> WebSettings:
    """Return what the process was started with; ``ConfigError`` where it was started by hand."""
    try:
        return msgspec.json.decode(environment[SETTINGS_ENV], type=WebSettings)
    except (KeyError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"the variable {SETTINGS_ENV} does not say what to serve: {error}",
            hint="declare a service of kind web, and run `inv start`",
        ) from None


async def run_web(environment: Mapping[str, str] = os.environ) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = settings_from(environment)
    async with serving_web(settings, environment, load_assets(Path(settings.client))):
        Notifier().ready()
        await stop.wait()


@asynccontextmanager
async def serving_dashboard(dashboard: DashboardSettings, port: int = 0) -> AsyncIterator[int]:
    """Serve the dashboard alone, on loopback, until the block ends; yields the port, a free one for 0.

    Only the user who runs this, and root, get anything: others on this machine reach loopback, too.
    """
    connections, operators = Connections(), Operators("")
    settings = ServerSettings(
        port=port, requests_per_minute=_OPERATOR_REQUESTS, requests_per_minute_total=_OPERATOR_REQUESTS
    )
    app = HttpApp(settings, dashboard_assets(), connections)
    served = Dashboard(dashboard, operators)
    application = app.application()
    DashboardRoutes(app, served, operators).add_to(application.router)
    runner = _runner(application)
    await runner.setup()
    try:
        async with _listening(settings, runner, connections) as port:
            yield port
    finally:
        await served.close()
        await runner.cleanup()


@asynccontextmanager
async def serving_web(
    settings: WebSettings,
    environment: Mapping[str, str],
    assets: Mapping[str, Asset],
    connections: Connections | None = None,
) -> AsyncIterator[None]:
    """Listen until the block ends; ``ConfigError`` where an address can't be used. ``environment`` has the keys."""
    key, secret = (Secret(environment.get(f"LIVEKIT_API_{one}", "")) for one in ("KEY", "SECRET"))
    connections = connections or Connections()
    async with LivekitApi(settings.livekit_url, key, secret) as api:
        causes = Causes(api, settings.why_command)
        sessions = Sessions(
            api,
            key,
            secret,
            browser_url=settings.browser_url,
            agent_name=settings.agent_name,
            on_cause=causes.note,
        )
        operators = Operators(environment.get(OPERATORS_TOKEN_ENV, ""))
        dashboard = Dashboard(settings.dashboard, operators) if settings.dashboard else None
        app = WebApp(
            settings, assets, sessions, causes, connections, operators=operators, dashboard=dashboard
        )
        runner = _runner(app.application())
        await runner.setup()
        try:
            async with _listening(settings, runner, connections):
                yield
        finally:
            if dashboard is not None:
                await dashboard.close()
            await sessions.close()
            await runner.cleanup()


def _runner(application: web.Application) -> web.AppRunner:
    return web.AppRunner(
        application, access_log=None, keepalive_timeout=_KEEPALIVE_S, lingering_time=_LINGER_S
    )


@asynccontextmanager
async def _listening(
    settings: ServerSettings, runner: web.AppRunner, connections: Connections
) -> AsyncIterator[int]:
    loop, handler = asyncio.get_running_loop(), runner.server
    assert handler is not None
    listeners: list[asyncio.Server] = []
    try:
        for port in {settings.port, settings.cors_port or settings.port}:
            try:
                listeners.append(
                    await loop.create_server(
                        connections.factory(handler), settings.address, port, backlog=_BACKLOG
                    )
                )
            except OSError as error:
                raise ConfigError(
                    f"{settings.address}:{port} can't be listened on: {error.strerror or error}"
                ) from error
        yield int(listeners[0].sockets[0].getsockname()[1])
    finally:
        for listener in listeners:
            listener.close()
