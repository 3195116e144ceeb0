"""The same as ``processes`` reads from /proc, by psutil, for systems that have no /proc."""

from __future__ import annotations

import os
import time

import psutil

from voiceops.adapters.process.table_entry import Process, ProcessKey

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def find(pid: int) -> Process | None:
    """The live process with this pid."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            created = process.create_time()
            return Process(
                key=ProcessKey(pid, f"{created:.2f}"),
                parent=process.ppid(),
                session=os.getsid(pid),
                age_s=max(0.0, time.time() - created),
            )
    except (*_GONE, OSError):
        return None


def table() -> list[Process]:
    """All live processes."""
    return [process for process in map(find, psutil.pids()) if process]


def environment(pid: int) -> dict[str, str]:
    """Empty when it is not ours to read."""
    try:
        return psutil.Process(pid).environ()
    except (*_GONE, OSError):
        return {}


def command_line(pid: int) -> tuple[str, ...]:
    """Empty when it is gone."""
    try:
        return tuple(psutil.Process(pid).cmdline())
    except (*_GONE, OSError):
        return ()


def listeners(port: int) -> set[int]:
    """The pids that listen on a TCP port, as far as we may see."""
    try:
        return {
            c.pid
            for c in psutil.net_connections("tcp")
            if c.pid and c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port
        }
    except (*_GONE, OSError):
        return set()


def is_stopped(pid: int) -> bool:
    """Whether it is stopped by a signal or a debugger."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False
