"""Read the process table: what runs, with which variables, and who listens where."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.messages import PortOwner, ProcessEntry

ANSWER_BYTES = 1_000_000
"""Of an answer, and of what a process says of itself: its command line, its variables."""


def process_variable(pid: int, name: str) -> str:
    """One variable of a running process: what it was started with, whatever the files say today."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for assignment in file.read(ANSWER_BYTES).split(b"\0"):
                if assignment.startswith(name.encode() + b"="):
                    return assignment.partition(b"=")[2].decode(errors="replace")
    except OSError:
        return ""
    return ""


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def port_owners(ports: list[int]) -> list[PortOwner]:
    """Who listens on these TCP ports, with the unit that it belongs to."""
    found: list[PortOwner] = []
    for port, pid in listeners(ports):
        try:
            found.append({**process_entry(pid), "port": port})
        except OSError:
            continue
    return found


def listeners(ports: list[int] | None) -> list[tuple[int, int]]:
    """(port, pid) of TCP ports that are listened on; None: of all."""
    inodes: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            with open(table) as file:
                for line in file.read().splitlines()[1:]:
                    fields = line.split()
                    port = int(fields[1].rpartition(":")[2], 16)
                    if fields[3] == "0A" and (ports is None or port in ports):
                        inodes[fields[9]] = port
    found = set()
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()] if inodes else []:
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    found.add((inodes[target[8:-1]], pid))
        except OSError:
            continue
    return sorted(found)


def process_entry(pid: int) -> ProcessEntry:
    """Return what a process is, and since when it runs."""
    with open(f"/proc/{pid}/cgroup") as file:
        groups = file.read()
    with open(f"/proc/{pid}/cmdline", "rb") as raw:
        command = raw.read(ANSWER_BYTES).replace(b"\0", b" ").decode(errors="replace").strip()
    unit = re.search(r"/([^/\n]+\.service)", groups)
    return {
        "pid": pid,
        "start": start_time(pid),
        "unit": unit.group(1) if unit else "",
        "command": command,
        "age_s": process_age(pid),
    }


def start_time(pid: int) -> int:
    """In clock ticks since boot: with the pid it names a process for good. 0: it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def process_age(pid: int) -> float:
    with open("/proc/uptime") as file:
        return float(file.read().split()[0]) - start_time(pid) / os.sysconf("SC_CLK_TCK")
