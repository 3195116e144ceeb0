"""Open the page or the dashboard in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import TYPE_CHECKING

from voiceops.adapters import http
from voiceops.cli.command import CommandRun, Report
from voiceops.errors import ConfigError, NotListeningError

if TYPE_CHECKING:
    from voiceops.model.documents.project import OpenDocument


def show_page(run: CommandRun, *, address_only: bool, dashboard: bool = False) -> Report:
    """Open the page, or the operators' dashboard, where there is a display; ``ConfigError`` without one in the inventory, exit 5 where it is not up."""
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
    opened = not address_only and not run.json and _has_display() and webbrowser.open(address)
    document: OpenDocument = {"url": address, "opened": opened}
    return Report(document, f"opened {address}" if opened else address)


def _has_display() -> bool:
    """Without one, webbrowser would start a browser of the terminal, which places no calls."""
    return sys.platform == "darwin" or any(os.environ.get(one) for one in ("DISPLAY", "WAYLAND_DISPLAY"))
