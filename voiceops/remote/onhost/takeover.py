#!/usr/bin/python3 -IS
"""Runs on a host as root while a livekit-server of several hands its calls over: whoever comes after its end reaches another one.

Standard library only, Python 3.9. Callers and agents are connected to one node for their signals, wherever their room is. When
that node ends, they try once at once to go on where they were, and only then join anew, which everybody in the room sees as
somebody who leaves. So this program takes a copy of the listening socket from the server (``pidfd_getfd``, Linux 5.6), gives up
root, and, once the server has ended, passes what comes on to another node, until it is told (SIGUSR1) that the server starts again.
It ends with the last connection that it carries. Workers are sent away: they register again with the server that starts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys

_PIDFD_GETFD = 438
_LISTEN = "0A"
_LISTENS_S = 1.5
"""After the server's end, unless it is told before: systemd starts it again after 2 s."""
_HEAD_S = 5.0
_CONNECT_S = 3.0
_PIECE = 65536


def listening(port: int) -> set[str]:
    """The sockets that listen on a TCP port, as links of ``/proc/PID/fd`` name them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                lines = file.read().splitlines()[1:]
        except FileNotFoundError:
            continue  # IPv6 is off
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def copies(pid: int, pidfd: int, port: int) -> list[socket.socket]:
    """Copies of the sockets by which a process listens on a port."""
    wanted = listening(port)
    libc = ctypes.CDLL(None, use_errno=True)
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{name}") not in wanted:
            continue
        descriptor = libc.syscall(_PIDFD_GETFD, pidfd, int(name), 0)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        found.append(socket.socket(fileno=descriptor))
    return found


def notify_ready() -> None:
    """Tell systemd-run that it may go on."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"READY=1", address.replace("@", "\0", 1))


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what comes until either side ends."""
    try:
        while data := await source.read(_PIECE):
            target.write(data)
            await target.drain()
    except OSError:
        pass  # the other direction ends with it
    finally:
        target.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Pass one connection on, unless it is a worker's."""
    try:
        head = await asyncio.wait_for(reader.readline(), _HEAD_S)
        if not head or head.startswith(b"GET /agent"):
            return
        there, back = await asyncio.wait_for(asyncio.open_connection(host, port), _CONNECT_S)
        back.write(head)
        await asyncio.gather(copy(reader, back), copy(there, writer))
    except (OSError, ValueError, asyncio.TimeoutError):
        return  # whoever it is tries again
    finally:
        writer.close()


async def take_over(pidfd: int, sockets: list[socket.socket], host: str, port: int) -> None:
    """Wait for the server's end, listen in its place for a moment, and carry what has come to its end."""
    loop = asyncio.get_running_loop()
    over, told = asyncio.Event(), asyncio.Event()
    loop.add_reader(pidfd, over.set)
    loop.add_signal_handler(signal.SIGUSR1, told.set)
    await over.wait()
    loop.remove_reader(pidfd)
    carried: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = loop.create_task(carry(reader, writer, host, port))
        carried.add(task)
        task.add_done_callback(carried.discard)

    servers = [await asyncio.start_server(begin, sock=one) for one in sockets]
    with contextlib.suppress(asyncio.TimeoutError):  # whoever began this is gone
        await asyncio.wait_for(told.wait(), _LISTENS_S)
    for server in servers:
        server.close()
    while carried:
        await asyncio.wait(set(carried))


def main() -> int:
    """Take the sockets, become the service's user, take over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to-host", required=True)
    parser.add_argument("--to-port", type=int, required=True)
    given = parser.parse_args()
    with socket.create_connection((given.to_host, given.to_port), timeout=_CONNECT_S):
        pass  # an address that this host does not reach is no help to anybody
    pidfd = os.pidfd_open(given.pid)
    sockets = copies(given.pid, pidfd, given.port)
    if not sockets:
        print(f"pid {given.pid} does not listen on port {given.port}", file=sys.stderr)
        return 1
    owner = os.stat(f"/proc/{given.pid}")
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    notify_ready()
    asyncio.run(take_over(pidfd, sockets, given.to_host, given.to_port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
