"""The monitor of the other services: it starts what died again, and looks after rooms."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from voiceops.kinds.agent import agent_variables
from voiceops.kinds.environment import digest_of, service_environment
from voiceops.kinds.model import DeclarationContext, Declared, HostDeclaration, Kind
from voiceops.model.environment import RESERVED_VARIABLES
from voiceops.model.roles import Role
from voiceops.model.settings import Port, PortUse, Probe, ServiceBase, Settings

if TYPE_CHECKING:
    from voiceops.kinds.host import HostContext


class MonitorService(ServiceBase, tag_field="kind", tag="monitor", frozen=True, kw_only=True):
    """``inv monitor`` as a service."""

    watches = True
    webhook_port: Port | None = None
    """TCP port of loopback on which it takes LiveKit's webhooks, which livekit.yaml then names; None: it asks only."""


class MonitorKind(Kind[MonitorService]):
    """Needs nothing, as it watches all of it: it has to run while its LiveKit does not."""

    settings = MonitorService
    runs_python = True

    def ports(self, name: str, service: MonitorService, settings: Settings) -> Iterable[PortUse]:
        if service.webhook_port is not None:
            yield PortUse("TCP", service.webhook_port, ("services", name, "webhook_port"))

    def outline(self, bare: Declared, service: MonitorService, settings: Settings) -> Declared:
        return replace(bare, needs=(), probe=Probe(notify=True))

    def declare(self, outline: Declared, service: MonitorService, context: DeclarationContext) -> Declared:
        settings, dotenv = context.settings, context.dotenv()
        argv = (*context.program, "monitor", "--inventory", str(context.inventory))
        given = [service_environment(one, dotenv) for one in settings.running.values()]
        livekit = settings.livekit
        has_livekit = settings.runs(Role.SERVER) or settings.runs(Role.AGENT)
        keys = (livekit.api_key.reveal(), livekit.api_secret.reveal()) if has_livekit else ()
        return replace(
            outline,
            argv=argv,
            digest=digest_of(argv, repr(settings), keys, given, agent_variables(dotenv)),
            # It declares the same services as the command that starts it, so it needs what that one has.
            env=_own_environment() | service_environment(service, dotenv),
        )

    def declare_on_host(
        self, outline: Declared, service: MonitorService, host: HostContext
    ) -> HostDeclaration:
        # Deferred: a start on this machine must not pay for resources.
        from voiceops.kinds.monitor_host import declare_monitor

        return declare_monitor(outline, service, host)

    def requirements(self, service: MonitorService, settings: Settings) -> tuple[str, ...]:
        alerts = ("apprise",) if settings.alerts.channels else ()
        by_sql = settings.history.url and settings.history.url.reveal().startswith("postgresql:")
        return (*alerts, *(("sqlalchemy", "pg8000") if by_sql else ()))

    def as_monitored(self, service: MonitorService) -> dict[str, object]:
        port = service.webhook_port
        return {"kind": service.kind, **({} if port is None else {"webhook_port": port})}


KIND = MonitorKind()


def _own_environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in RESERVED_VARIABLES}
    package = Path(__file__).resolve().parents[2]
    paths = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), str(package)]
    return environment | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
