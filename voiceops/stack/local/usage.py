"""CPU and memory of a run on this machine."""

from __future__ import annotations

import os

from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import LINUX
from voiceops.model import protocol
from voiceops.stack.model import Instance, Usage

_HERTZ = os.sysconf("SC_CLK_TCK")


def usage(instance: Instance) -> Usage | None:
    """Of the run with everything below its main process; None where the system has no /proc."""
    if not LINUX or not instance.pid:
        return None
    table = processes.table()
    below = processes.descendants(instance.pid, table)
    # What a monitor has started again is its child, and a service of its own.
    others = {one.pid for one in below if one.leads and _other_launch(one.pid, instance.launch)}
    if others:
        below = processes.descendants(instance.pid, [one for one in table if one.pid not in others])
    pids = [instance.pid, *(one.pid for one in below)]
    return Usage(cpu_s=sum(map(_cpu_s, pids)), memory_bytes=sum(map(_memory_bytes, pids)))


def _other_launch(pid: int, launch: str) -> bool:
    return processes.environment(pid).get(protocol.LAUNCH_ENV, launch) != launch


def _cpu_s(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0  # it has ended
    # utime, stime and those of the children that were waited for: a job that ended counts on.
    return sum(map(int, fields[11:15])) / _HERTZ


def _memory_bytes(pid: int) -> int:
    """What it has for itself and its share of the rest: the job processes of an agent share most of theirs."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _resident_bytes(pid)


def _resident_bytes(pid: int) -> int:
    """For a process of another user, whose shares we may not read."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
