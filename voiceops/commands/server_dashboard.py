"""The dashboard of servers, served on this machine: it reads and acts over ssh, as commands with ``--host`` do.

On a server there is nothing that could do either: its services' user reads no journal and restarts no unit.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

from voiceops.commands.dashboard import host_arguments
from voiceops.model.web import AUDIT_LOG, DashboardSettings
from voiceops.stack.local.folder import ProjectFolder
from voiceops.util import aio
from voiceops.web.server import serving_dashboard
from voiceops.wiring.project import Project
from voiceops.wiring.stack import own_program


def serve_dashboard(project: Project, hosts: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; ``ready`` gets the address once it answers."""
    aio.run(_serve(dashboard_of(project, hosts), port, ready))


def dashboard_of(project: Project, hosts: str) -> DashboardSettings:
    """Return what reads the selected hosts and acts on them; ``hosts`` as ``--host`` had them."""
    arguments = host_arguments(project, hosts or ",".join(host.name for host in project.hosts))
    inventory = str(project.inventory_file)
    feed = (sys.executable, "-m", "voiceops.commands.dashboard", inventory, ",".join(arguments.values()))
    return DashboardSettings(
        feed=feed,
        program=own_program(),
        inventory=inventory,
        audit_log=str(ProjectFolder(project.root).base / AUDIT_LOG),
        hosts=arguments,
    )


async def _serve(dashboard: DashboardSettings, port: int, ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving_dashboard(dashboard, port) as listening:
        ready(f"http://localhost:{listening}/ops")
        await stop.wait()
