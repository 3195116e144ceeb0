#!/usr/bin/python3 -IS
"""Runs on a host as ExecStartPost: ends well once the service that systemd just started can do its job.

Standard library only, Python 3.9. For programs without sd_notify. Beside the probe it checks that a process
of the unit owns the port: a server left over from elsewhere answers 200 as well. It runs as the service's
own user in the service's sandbox, never as root: that user can write its HOME, and the unit's environment
reaches it.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urljoin, urlsplit

_LISTEN = "0A"
_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST_ALL = 0x301
_DONE, _ERROR = 3, 2
_CGROUP_ID = 21
"""linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h; the attribute came with Linux 5.8."""


_REDIRECTS_MAX = 5
_POLL_S = (0.02, 0.1)
"""Between two probes: at first, and of a service that takes its time."""


def listening(port: int) -> dict[int, int]:
    """Inode and user of each socket that listens on a TCP port."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                lines = file.read().splitlines()[1:]
        except FileNotFoundError:
            continue  # IPv6 is off
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found[int(fields[9])] = int(fields[7])
    return found


def own_cgroup() -> int:
    """The id of this unit's cgroup, which this program is in as well; 0 where there is no unified hierarchy."""
    try:
        with open("/proc/self/cgroup") as file:
            path = file.read().strip().rpartition("0::")[2]
        return os.stat("/sys/fs/cgroup" + path).st_ino if path else 0
    except OSError:
        return 0


def cgroups() -> dict[int, int]:
    """Inode of each listening TCP socket, and the id of the cgroup that made it; empty if the kernel is silent."""
    found: dict[int, int] = {}
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as netlink:
            netlink.settimeout(2)
            for family in (socket.AF_INET, socket.AF_INET6):
                asked = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 0, 0, 1 << int(_LISTEN, 16))
                head = struct.pack("=IHHII", 16 + len(asked), _BY_FAMILY, _REQUEST_ALL, 1, 0)
                netlink.send(head + asked)
                while _read_sockets(netlink.recv(1 << 16), found):
                    pass
    except OSError:
        return {}  # an old kernel, or a sandbox without netlink
    return found


def _read_sockets(data: bytes, found: dict[int, int]) -> bool:
    """Take one datagram of the answer; whether more will come."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if kind in (_DONE, _ERROR):
            return False
        # inet_diag_msg: 72 bytes, the inode last; then attributes.
        (inode,) = struct.unpack_from("=I", data, 16 + 68)
        at = 16 + 72
        while at + 4 <= length:
            size, name = struct.unpack_from("=HH", data, at)
            if name == _CGROUP_ID:
                (found[inode],) = struct.unpack_from("=Q", data, at + 4)
            at += max(4, size + 3 & ~3)
        data = data[max(16, length + 3 & ~3) :]
    return True


def owns(port: int) -> str:
    """Empty when a process of this unit listens on the port, else what is wrong."""
    sockets = listening(port)
    if not sockets:
        return f"nobody listens on port {port}"
    own, made_by = own_cgroup(), cgroups()
    for inode, user in sockets.items():
        # Without cgroups the user has to do: it tells the project's services from everybody else's.
        if made_by[inode] == own if own and inode in made_by else user == os.getuid():
            return ""
    return f"port {port} belongs to another process"


def http_status(url: str) -> int:
    """Status of a GET, redirects followed. Without urllib.request, whose import takes as long as all the rest."""
    status = 0
    for _ in range(_REDIRECTS_MAX):
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        with closing(kind(parts.netloc, timeout=2)) as connection:
            connection.request("GET", parts._replace(scheme="", netloc="", fragment="").geturl() or "/")
            answer = connection.getresponse()
            status, moved = answer.status, answer.getheader("Location")
        if not (300 <= status < 400 and moved):
            break
        url = urljoin(url, moved)
    return status


def probe(arguments: argparse.Namespace) -> str:
    """Empty when ready, else what is missing."""
    missing = owns(arguments.port) if arguments.port else ""
    if missing:
        return missing
    if arguments.http:
        try:
            status = http_status(arguments.http)
        except (OSError, HTTPException) as error:
            return f"{arguments.http} does not answer: {error}"
        if status != 200:
            return f"{arguments.http} answers {status}"
    if arguments.tcp:
        host, _, port = arguments.tcp.rpartition(":")
        try:
            socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), timeout=2).close()
        except OSError as error:
            return f"{arguments.tcp} does not accept a connection: {error}"
    if arguments.command:
        try:
            code = subprocess.run(
                arguments.command, timeout=10, stdout=subprocess.DEVNULL, check=False
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{arguments.command[0]}: {error}"
        if code != 0:
            return f"{arguments.command[0]} exits {code}"
    return ""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout-s", type=float, default=60)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--http", default="")
    parser.add_argument("--tcp", default="")
    parser.add_argument("--settle-s", type=float, default=0.0)
    parser.add_argument("command", nargs="*")
    arguments = parser.parse_args(argv)
    pid = int(os.environ["MAINPID"])
    began = time.monotonic()
    while True:
        try:
            missing = probe(arguments)
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            print("the service ended before it was ready", file=sys.stderr)
            return 1
        if not missing:
            # livekit-server loses a SIGTERM that comes within 50 ms of its first answer.
            time.sleep(arguments.settle_s)
            return 0
        waited_s = time.monotonic() - began
        if waited_s > arguments.timeout_s:
            print(f"not ready after {arguments.timeout_s:g} s: {missing}", file=sys.stderr)
            return 1
        time.sleep(min(_POLL_S[1], max(_POLL_S[0], waited_s / 16)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
