"""What the last deploy left on a host: the services that start, stop and restart act on there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from voiceops.deploy.ledger import read_ledger
from voiceops.errors import HostError
from voiceops.kinds.model import Declared
from voiceops.model.settings import Settings
from voiceops.ports import Transport
from voiceops.systemd.names import HostNames


def deployed_services(
    transport: Transport, settings: Settings, outline: Sequence[Declared]
) -> tuple[Declared, ...]:
    """The declared services with the release and digest that the host was deployed with.

    Nothing newer is brought along: that is what ``deploy`` is for. ``HostError`` for a service
    that no deploy has brought there to its end.
    """
    current = read_ledger(transport, HostNames(settings.project)).current
    missing = [service.name for service in outline if service.name not in current]
    if missing:
        raise HostError(
            f"{transport.name}: no deploy of {', '.join(missing)} has come to its end there",
            hint=f"`inv deploy --host {transport.name}` does it",
            data={"host": transport.name, "services": missing},
        )
    return tuple(
        replace(service, release=current[service.name]["release"], digest=current[service.name]["digest"])
        for service in outline
    )
