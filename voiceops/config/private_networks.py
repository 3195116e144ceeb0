"""Which addresses are only reached through loopback or a private network."""

from __future__ import annotations

from urllib.parse import urlsplit

_NETWORKS = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
    *("0.0.0.0/32", "::/128"),  # as a destination: this machine
)
"""RFC 1122, 1918, 3927, 4193, 4291. ``ipaddress.is_private`` knows more: it means "not global"."""
_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".localdomain", ".home.arpa")


def is_private_url(url: str) -> bool:
    """Whether the host of a URL is private. A name is judged as it is written, without asking DNS.

    Names without a dot come from /etc/hosts or the local network's own domain.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host in ("localhost", "127.0.0.1"):
        return True
    import ipaddress  # 4 ms that the default url does not pay for

    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host or host.endswith(_SUFFIXES)
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in ipaddress.ip_network(network) for network in _NETWORKS)
