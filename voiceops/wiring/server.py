"""Build the stack of a server as it was deployed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from voiceops.adapters.ssh.transports import transport_to
from voiceops.deadline import Deadline
from voiceops.deploy.desired import host_outline
from voiceops.deploy.ledger import deployed_services
from voiceops.model.settings import Host
from voiceops.ports import Transport
from voiceops.resources import Lease, locked
from voiceops.stack.results import Progress
from voiceops.stack.stack import Stack
from voiceops.stack.systemd.server import systemd_stack
from voiceops.wiring.project import Project


def server_stack(
    project: Project,
    host: Host,
    *,
    progress: Progress,
    say: Callable[[str], None],
    transport: Transport | None = None,
) -> Stack:
    """The services of a server, over a connection of its own unless ``transport`` is given."""
    used = transport or transport_to(host)
    outline = host_outline(host.settings)

    def lock(limit: Deadline) -> AbstractContextManager[None]:
        lease = Lease(reason="start or stop", wait_s=min(limit.remaining_s, 10.0))
        return locked(used, host.settings.project, lease, stay_s=limit.remaining_s + 60.0)

    return systemd_stack(
        host,
        used,
        outline=outline,
        services=lambda: deployed_services(used, host.settings, outline),
        lock=lock,
        progress=progress,
        say=say,
        rooms_memory=project.rooms_memory,
    )
