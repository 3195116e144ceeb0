"""In which order hosts are deployed: what is needed first, one host ahead, then batches. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from voiceops.errors import UsageError
from voiceops.model.roles import Role
from voiceops.model.settings import Host


def services_of(host: Host) -> set[str]:
    """The names of the services that a host runs."""
    return set(host.settings.running)


def tiers(hosts: Sequence[Host]) -> list[list[Host]]:
    """Hosts by what they need of each other: those of one tier need nobody of it or of a later one.

    Hosts that need each other in a circle share a tier: for them there is no order.
    """
    providers: dict[str, set[str]] = {}
    for host in hosts:
        for service in services_of(host):
            providers.setdefault(service, set()).add(host.name)
    needed = {host.name: _needed_hosts(host, providers) for host in hosts}
    left = list(hosts)
    ordered: list[list[Host]] = []
    while left:
        names = {host.name for host in left}
        ready = [host for host in left if not needed[host.name] & names] or left
        ordered.append(ready)
        left = [host for host in left if host not in ready]
    return ordered


def start_order(hosts: Sequence[Host], *, one_by_one: bool = False) -> list[list[Host]]:
    """Batches in which services are started: what others need first, side by side or ``one_by_one``."""
    order = tiers(hosts) if len(hosts) > 1 else [list(hosts)]
    return [[host] for tier in order for host in tier] if one_by_one else order


def stop_order(hosts: Sequence[Host]) -> list[list[Host]]:
    """Batches in which services are stopped: what others need last."""
    return start_order(hosts)[::-1]


def _needed_hosts(host: Host, providers: Mapping[str, set[str]]) -> set[str]:
    own, services = services_of(host), host.settings.services
    wanted = {need for name in own for need in services[name].needs}
    if host.settings.runs(Role.AGENT):
        # Said or not: an agent that registers nowhere never gets ready.
        wanted |= {name for name, service in services.items() if service.role is Role.SERVER}
    return {name for need in wanted - own for name in providers.get(need, ())} - {host.name}


def batches(hosts: Sequence[Host], serial: int | str, *, barrier: bool = True) -> list[list[Host]]:
    """Tiers cut into batches of ``serial``; the very first host goes ahead alone.

    Nodes that share a Redis go one at a time, whatever ``serial`` says: the others answer meanwhile.
    """
    size = batch_size(serial, len(hosts))
    cut: list[list[Host]] = []
    for tier in tiers(hosts):
        rest = list(tier)
        if barrier and not cut and len(hosts) > 1:
            cut.append([rest.pop(0)])
        cut += [[host] for host in rest if cluster_of(host)]
        rest = [host for host in rest if not cluster_of(host)]
        cut += [rest[at : at + size] for at in range(0, len(rest), size)]
    return cut


def cluster_of(host: Host) -> str:
    """The Redis by which the livekit-server of this host is joined to others; empty: it stands alone."""
    return next((one.cluster for one in host.settings.running.values() if one.cluster), "")


def batch_size(serial: int | str, count: int) -> int:
    """At least one; a percentage is of all hosts of this run."""
    if isinstance(serial, int):
        return max(1, serial)
    return max(1, count * int(serial.rstrip("%")) // 100)


def serial_of(text: str) -> int | str:
    """The flag, as the inventory has it: a number, or a percentage."""
    number = text.removesuffix("%")
    if not number.isdecimal() or int(number) < 1 or (text.endswith("%") and int(number) > 100):
        raise UsageError(f"--serial {text!r} is no number of hosts", hint="write 2 or 25%")
    return text if text.endswith("%") else int(text)


def servers(hosts: Sequence[Host], *, what: str) -> Sequence[Host]:
    """These hosts; ``UsageError`` where this machine is one of them."""
    local = [host.name for host in hosts if host.local]
    if local:
        raise UsageError(
            f"{local[0]} is this machine: {what} is for servers",
            hint="name servers by --host, --group or --limit; `inv start` runs the services here",
        )
    return hosts
