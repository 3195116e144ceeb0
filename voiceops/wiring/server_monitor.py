"""Build what the monitor of a server watches: the units of the host that it runs on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from voiceops.model.roles import Role
from voiceops.model.settings import Host
from voiceops.monitor.restart_client import ask_for_restart
from voiceops.monitor.server_stack import MonitoredServer
from voiceops.stack import declare
from voiceops.stack.livekit_occupancy import LivekitOccupancy
from voiceops.systemd.names import HostNames


def server_services(host: Host, own_name: str) -> MonitoredServer:
    """The units of this host, as its own inventory has them."""
    settings = host.settings
    names = HostNames(settings.project)
    has_livekit = settings.runs(Role.SERVER) or settings.runs(Role.AGENT)
    return MonitoredServer(
        names=names,
        outline=declare.outline(settings, Path(names.opt)),
        settings=settings.running,
        own_name=own_name,
        occupancy=_occupancy(host) if has_livekit else None,
        restart=partial(ask_for_restart, names.restart_socket(own_name)),
    )


def _occupancy(host: Host) -> LivekitOccupancy:
    return LivekitOccupancy(
        livekit=host.settings.livekit,
        rooms=host.settings.rooms,
        port=host.settings.livekit.port,
        # What a server was started with is root's to read: with other keys, its calls are unknown.
        started_with=lambda server: "",
        url_of_port=lambda port: f"ws://127.0.0.1:{port}",
    )
