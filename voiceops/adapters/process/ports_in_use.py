"""Who listens on a TCP port of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable

from voiceops.adapters.process.table_entry import LINUX

if not LINUX:
    from voiceops.adapters.process import portable

_LISTEN = b"0A"


def listening_sockets(ports: Iterable[int]) -> dict[int, set[str]]:
    """For each of these ports that somebody listens on: the sockets' inodes."""
    wanted = set(ports)
    return {port: sockets for port, sockets in _all_listening().items() if port in wanted}


def _all_listening() -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, "rb") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                port = int(fields[1].rpartition(b":")[2], 16)
                found.setdefault(port, set()).add(fields[9].decode())
    return found


def sockets_of(pid: int) -> set[str]:
    """The inodes of a process's sockets; empty when it is another user's."""
    folder = f"/proc/{pid}/fd"
    found: set[str] = set()
    try:
        names = os.listdir(folder)
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def taken(ports: Iterable[int]) -> set[int]:
    """Those of the ports on which somebody listens."""
    if LINUX:
        return set(listening_sockets(ports))
    return {port for port in ports if portable.listeners(port)}


def owners(port: int, pids: Iterable[int]) -> set[int]:
    """Who of ``pids`` listens on the port."""
    if not LINUX:
        return portable.listeners(port) & set(pids)
    sockets = listening_sockets([port]).get(port, set())
    return {pid for pid in pids if sockets and not sockets.isdisjoint(sockets_of(pid))}


def listening_ports(pid: int) -> list[int]:
    """The TCP ports that a process listens on; only where /proc tells."""
    own = sockets_of(pid)
    return sorted(port for port, sockets in _all_listening().items() if not own.isdisjoint(sockets))
