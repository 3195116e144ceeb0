"""Open the page or the dashboard in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import TYPE_CHECKING

from voiceops.adapters import http
from voiceops.cli.command import CommandRun, Report, print_report
from voiceops.commands import server_dashboard
from voiceops.errors import ConfigError, NotListeningError, UsageError

if TYPE_CHECKING:
    from voiceops.model.documents.project import OpenDocument
    from voiceops.model.settings import Host


_MOST_PORT = 65535


def open_page(run: CommandRun, *, address_only: bool, dashboard: bool, port: int) -> Report | None:
    """Open the page, or the operators' dashboard, where there is a display.

    ``ConfigError`` without one in the inventory, exit 5 where it is not up. What servers have is served here until
    Ctrl-C; only then there is no report.
    """
    remote = [host for host in run.project.hosts if not host.local]
    if port and not (remote and dashboard):
        raise UsageError("--port is for the dashboard of servers", hint="`inv open --ops --host NAME`")
    if port > _MOST_PORT:
        raise UsageError(f"--port {port}: a port is from 1 to {_MOST_PORT}")
    if not remote:
        return _opened(_local_address(run, dashboard=dashboard), run, address_only=address_only)
    if not dashboard:
        return _opened(_server_address(remote), run, address_only=address_only)
    if len(remote) < len(run.project.hosts):
        raise UsageError(
            "this machine's dashboard is served by its own service of kind web", hint="name servers only"
        )

    def ready(address: str) -> None:
        print_report(_opened(address, run, address_only=address_only), run)
        run.say("serving the dashboard until Ctrl-C")

    server_dashboard.serve_dashboard(run.project, run.host, port, ready)
    return None


def _local_address(run: CommandRun, *, dashboard: bool) -> str:
    host = run.project.configuration.this_machine()
    pages = {name: one.page_port for name, one in host.settings.running.items() if one.page_port is not None}
    if not pages:
        raise ConfigError(
            "this machine runs no page",
            path="services",
            hint="declare one: services: {web: {kind: web, needs: [livekit]}}",
        )
    name, port = next(iter(pages.items()))
    address = f"http://localhost:{port}/{'ops' if dashboard else ''}"
    if not http.accepts("127.0.0.1", port):
        raise NotListeningError(
            f"nothing listens at {address}", hint=f"`inv start --only {name}`", retryable=True
        )
    return address


def _server_address(hosts: list[Host]) -> str:
    """Where people call servers: by the Caddy of one of them."""
    for host in hosts:
        for one in host.settings.running.values():
            if one.https_host:
                return f"https://{one.https_host}/"
    raise ConfigError(
        f"{', '.join(host.name for host in hosts)}: no service of kind caddy says by which address people call",
        path="services",
        hint=f"`ssh -L 8888:localhost:8888 {hosts[0].name}` brings the page to http://localhost:8888",
    )


def _opened(address: str, run: CommandRun, *, address_only: bool) -> Report:
    opened = not address_only and not run.json and _has_display() and webbrowser.open(address)
    document: OpenDocument = {"url": address, "opened": opened}
    return Report(document, f"opened {address}" if opened else address)


def _has_display() -> bool:
    """Without one, webbrowser would start a browser of the terminal, which places no calls."""
    return sys.platform == "darwin" or any(os.environ.get(one) for one in ("DISPLAY", "WAYLAND_DISPLAY"))
