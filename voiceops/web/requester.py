"""Who asks, from which page, and for which host: what of the headers may be believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP")
"""Headers by which proxies say that they stand between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """One request's client."""

    address: str
    host: str
    """What it asked for, as the Host header has it."""
    scheme: str
    direct: bool
    """Nobody stands between: no proxy has said so."""

    @property
    def on_this_machine(self) -> bool:
        """Whether it runs here, so that it may see what operators see."""
        return self.direct and _is_loopback(self.address) and is_loopback_name(self.host)

    @property
    def origin(self) -> str:
        """The origin of the page itself."""
        return f"{self.scheme}://{self.host.lower()}"


def requester(peer: str, host: str, headers: Mapping[str, str], trusted: Sequence[str]) -> Requester:
    """Return who asks. ``X-Forwarded-*`` count only where ``peer`` is one of the networks ``trusted``."""
    direct = not any(name in headers for name in FORWARDED)
    if not _within(peer, trusted):
        return Requester(address=peer, host=host, scheme="http", direct=direct)
    address = peer
    # From the right: what stands left of the first that is not trusted was written by anybody.
    for hop in reversed(headers.get("X-Forwarded-For", "").split(",")):
        if not _is_address(hop.strip()):
            break
        address = hop.strip()
        if not _within(address, trusted):
            break
    scheme = headers.get("X-Forwarded-Proto", "http").strip().lower()
    return Requester(
        address=address,
        host=headers.get("X-Forwarded-Host", host).strip(),
        scheme=scheme if scheme in ("http", "https") else "http",
        direct=direct,
    )


def is_loopback_name(host: str) -> bool:
    """Whether a Host header names this very machine; a name that somebody's DNS points here does not."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return name.lower() == "localhost" or _is_loopback(name.strip("[]"))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    return _is_address(text) and ipaddress.ip_address(text).is_loopback


def _within(address: str, networks: Sequence[str]) -> bool:
    if not _is_address(address):
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed in ipaddress.ip_network(one) for one in networks)
