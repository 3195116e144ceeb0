"""Say which limits of services hold on servers only."""

from __future__ import annotations

from collections.abc import Iterator

from voiceops.model.settings import Host
from voiceops.stack.results import Results


def lines_of(host: Host, results: Results) -> Iterator[str]:
    """What nothing limits of each service that was started on this machine; systemd does it, on servers."""
    for name, result in results.items() if host.local else ():
        service = host.settings.services.get(name)
        limits = service.limits_on_servers if service and result.changed else ()
        if limits:
            verb = "hold" if len(limits) > 1 else "holds"
            yield f"warning: {' and '.join(limits)} of {name} {verb} on servers only: nothing limits it here"
