"""Commands that are for servers alone."""

from __future__ import annotations

from collections.abc import Sequence

from voiceops.errors import UsageError
from voiceops.model.settings import Host


def servers(hosts: Sequence[Host], *, what: str) -> Sequence[Host]:
    """These hosts; ``UsageError`` where this machine is one of them."""
    local = [host.name for host in hosts if host.local]
    if local:
        raise UsageError(
            f"{local[0]} is this machine: {what} is for servers",
            hint="name servers by --host, --group or --limit; `inv start` runs the services here",
        )
    return hosts
