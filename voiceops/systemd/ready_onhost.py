#!/usr/bin/python3
"""Runs on a host as ExecStartPost: ends well once the service that systemd just started can do its job.

Standard library only, Python 3.9. For programs without sd_notify. Beside the probe it checks that the
unit's own main process owns the port: a server left over from elsewhere answers 200 as well.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

_LISTEN = "0A"


def listening_inodes(port: int) -> set[str]:
    """Inodes of the sockets that listen on a TCP port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                lines = file.read().splitlines()[1:]
        except FileNotFoundError:
            continue  # IPv6 is off
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def socket_inodes(pid: int) -> set[str]:
    """Inodes of the sockets that a process has open."""
    inodes = set()
    folder = f"/proc/{pid}/fd"
    for descriptor in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{descriptor}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes


def probe(arguments: argparse.Namespace, pid: int) -> str:
    """Empty when ready, else what is missing."""
    if arguments.port:
        wanted = listening_inodes(arguments.port)
        if not wanted:
            return f"nobody listens on port {arguments.port}"
        if not wanted & socket_inodes(pid):
            return f"port {arguments.port} belongs to another process"
    if arguments.http:
        try:
            with urllib.request.urlopen(arguments.http, timeout=2) as answer:
                if answer.status != 200:
                    return f"{arguments.http} answers {answer.status}"
        except urllib.error.HTTPError as error:
            return f"{arguments.http} answers {error.code}"
        except OSError as error:
            return f"{arguments.http} does not answer: {error}"
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
    ends_at = time.monotonic() + arguments.timeout_s
    while True:
        try:
            missing = probe(arguments, pid)
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            print("the service ended before it was ready", file=sys.stderr)
            return 1
        if not missing:
            # livekit-server loses a SIGTERM that comes within 50 ms of its first answer.
            time.sleep(arguments.settle_s)
            return 0
        if time.monotonic() > ends_at:
            print(f"not ready after {arguments.timeout_s:g} s: {missing}", file=sys.stderr)
            return 1
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
