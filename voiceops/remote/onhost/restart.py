#!/usr/bin/python3 -IS
"""Runs on a host as root, once for each connection of the monitor: restarts one unit of its project, and nothing else.

Standard library only, Python 3.9. The connection is standard input. It takes one line, ``restart UNIT``, from the
monitor's own unit, and answers with one line: ``ok``, ``locked OWNER`` or ``refused WHY``. What a person has stopped
stays stopped, and nothing happens while somebody holds the host's lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import signal
import socket
import struct
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REQUEST_BYTES = 256
DEADLINE_S = 20
"""For all of it, however slowly the request drips."""
SYSTEMCTL_S = 8
LEASE_BYTES = 10_000
PROPERTIES = (
    "Id,Type,LoadState,ActiveState,SubState,Job,MainPID,Environment,"
    "InactiveEnterTimestampMonotonic,ExecMainExitTimestampMonotonic"
)
_PAUSED_US = 1_000_000
"""A unit that failed by itself waited for its last restart between the end of its process and that."""


class Refused(Exception):
    """The request is not granted."""


def is_wanted(unit: Mapping[str, str]) -> bool:
    """Whether the unit runs, is on its way, or has given up by itself; not: somebody has stopped it."""
    state = unit.get("ActiveState", "")
    if state == "deactivating":
        return unit.get("Job", "") in ("", "0")  # whoever stops or restarts it has a job for that
    if state == "failed":
        ended_us = int(unit.get("ExecMainExitTimestampMonotonic") or 0)
        return int(unit.get("InactiveEnterTimestampMonotonic") or 0) - ended_us > _PAUSED_US
    return state in ("active", "activating", "reloading")


def check_peer(connection: socket.socket, user: str, monitor: str) -> None:
    """Only the monitor's own unit may ask, as the project's user."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if uid != pwd.getpwnam(user).pw_uid:
        raise Refused("this user may not ask")
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            groups = file.read(4096)
    except OSError:
        raise Refused("whoever asked is gone") from None
    if not re.search(rf"/{re.escape(monitor)}$", groups, re.MULTILINE):
        raise Refused("only the monitor may ask")


def read_request(connection: socket.socket, project: str) -> tuple[str, str]:
    """Return the unit that is asked for, and its service."""
    data = b""
    while b"\n" not in data and len(data) <= REQUEST_BYTES:
        piece = connection.recv(REQUEST_BYTES)
        if not piece:
            break
        data += piece
    line = data.decode("ascii", "replace")
    pattern = rf"restart ({re.escape(project)}-([a-z][a-z0-9_-]*)(@[A-Za-z0-9_.]+)?\.service)\n"
    found = re.fullmatch(pattern, line) if len(data) <= REQUEST_BYTES else None
    if found is None:
        raise Refused("it takes 'restart UNIT' with a unit of its project")
    return found[1], found[2]


def lease_of(descriptor: int) -> dict[str, object]:
    """Return the lease in the lock file, unless it ran out or the host was booted since; empty: there is none.

    Not by the boot's id: in a container a sandbox shows another one than the rest of the host has.
    """
    try:
        lease = json.loads(os.pread(descriptor, LEASE_BYTES, 0) or b"{}")
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        lasts = lease.get("expires", 0) > time.time() and os.fstat(descriptor).st_mtime >= booted
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return lease if lasts else {}


def held_by(path: str) -> str:
    """Take the host's lock for the rest of this process; return who else has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    lease = lease_of(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return str(lease.get("owner") or "a run that just began")
    lease = lease_of(descriptor)
    return str(lease.get("owner") or "somebody") if lease.get("held") else ""


def systemctl(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["systemctl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SYSTEMCTL_S,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired):
        raise Refused("systemctl does not answer") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Refused(f"systemctl {arguments[0]}: {' '.join(text.split())[:200]}")
    return text


def restart(name: str, mark: str) -> None:
    """Restart the unit now: an agent is killed, as it would drain; whoever asks knows that it has no calls."""
    shown = systemctl("show", "--no-pager", "-p", PROPERTIES, "--", name)
    unit = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    ours = mark in unit.get("Environment", "").split() and unit.get("Type") != "oneshot"
    if unit.get("LoadState") != "loaded" or unit.get("Id") != name or not ours:
        raise Refused(f"{name} is no unit of this project")
    if not is_wanted(unit):
        raise Refused(f"{name} was stopped")
    if "@" in name and unit.get("MainPID", "0") != "0":
        systemctl("kill", "--kill-who=all", "--signal=KILL", "--", name)
    failed = unit["ActiveState"] == "failed"
    if failed:
        systemctl("reset-failed", "--", name)
    # An agent is ordered behind its server, which may be on its way as well; it needs longer, and waits for it by itself.
    order = ["--job-mode=ignore-dependencies"] if "@" in name else []
    systemctl("restart", "--no-block", *order, "--", name)
    if not failed:
        # The monitor has a limit of its own. Forgotten last: the start does not wait for it.
        systemctl("reset-failed", "--", name)


def main(argv: Sequence[str]) -> int:
    """``PROJECT USER MONITOR-UNIT LOCK-FILE``; the connection is standard input."""
    project, user, monitor, lock = argv
    signal.alarm(DEADLINE_S)
    os.umask(0o077)
    with socket.socket(fileno=os.dup(0)) as connection:
        connection.settimeout(2.0)
        try:
            check_peer(connection, user, monitor)
            name, service = read_request(connection, project)
            if name == monitor:
                raise Refused("the monitor is systemd's to restart")
            owner = held_by(lock)
            if owner:
                answer = f"locked {owner}"
            else:
                restart(name, f"VOICEOPS_UNIT={project}/{service}")
                answer = "ok"
                print(f"{name} was restarted for {monitor}", file=sys.stderr)
        except (Refused, OSError, KeyError) as error:
            answer = f"refused {error}"
            print(answer, file=sys.stderr)
        try:
            connection.sendall(f"{' '.join(answer.split())}\n".encode())
        except OSError:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
