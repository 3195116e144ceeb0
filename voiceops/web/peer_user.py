"""Whose program is at the other end of a connection on this machine."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

_TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}


def is_same_user(peer: tuple[str, int], tables: dict[int, Path] = _TABLES) -> bool:
    """Whether it is ours or root's: anybody with an account here reaches loopback.

    Where the system has no such table (macOS) nothing is known of it, and it counts as ours.
    """
    if not sys.platform.startswith("linux"):
        return True
    return owner_of(peer, tables) in (0, os.geteuid())


def owner_of(peer: tuple[str, int], tables: dict[int, Path] = _TABLES) -> int | None:
    """The user id of a local TCP socket; None: there is none here that we may see."""
    address = ipaddress.ip_address(peer[0])
    wanted = f"{_as_kernel(address)}:{peer[1]:04X}"
    try:
        lines = tables[address.version].read_text().splitlines()[1:]
    except OSError:
        return None
    # sl local_address rem_address st tx:rx tr:when retrnsmt uid ...
    return next((int(fields[7]) for line in lines if (fields := line.split())[1] == wanted), None)


def _as_kernel(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Each 32 bits in the machine's own byte order."""
    words = (address.packed[start : start + 4] for start in range(0, len(address.packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
