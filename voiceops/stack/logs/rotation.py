"""Rotate logs: on demand, and while services run by a small process of its own.

Run by path (``python -I -S log_rotation.py FOLDER``) it looks at the logs of the services that
``FOLDER/state`` records every few seconds and ends with the last of them. It is standard library
only and imports nothing of voiceops, so it costs 8 MB. Services append to their logs themselves:
if this process dies, logs grow until the next command rotates them, and nothing else happens.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import select
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

INTERVAL_S = 2.0
LOCK_NAME = "rotation.lock"


def rotate_stopped(path: Path, max_bytes: int, keep: int) -> bool:
    """Move a log aside that has grown over the limit: nobody writes to it, or by its own descriptor."""
    descriptor = _locked_if_larger(path, max_bytes)
    if descriptor is None:
        return False
    try:
        _shift(path, keep)
        if keep > 0:
            os.replace(path, path.with_name(f"{path.name}.1"))
        else:
            path.unlink()
    finally:
        os.close(descriptor)
    return True


def rotate_running(path: Path, max_bytes: int, keep: int) -> bool:
    """The same while a service writes: copied and cut to nothing, since its descriptor appends.

    Where the copy fails (a full disk) the log and its older files stay as they are.
    """
    descriptor = _locked_if_larger(path, max_bytes)
    if descriptor is None:
        return False
    with open(descriptor, "rb+") as file:
        if keep > 0:
            copy = path.with_name(f"{path.name}.copy")
            try:
                with copy.open("wb") as target:
                    os.fchmod(target.fileno(), os.fstat(descriptor).st_mode & 0o777)
                    shutil.copyfileobj(file, target, 1_000_000)
                    _shift(path, keep)
                    # What came in during the copy; the window that is left is a few microseconds.
                    shutil.copyfileobj(file, target)
                    target.flush()
                    os.replace(copy, path.with_name(f"{path.name}.1"))
                    os.ftruncate(descriptor, 0)
            except OSError:
                copy.unlink(missing_ok=True)
                raise
        else:
            os.ftruncate(descriptor, 0)
    return True


def _locked_if_larger(path: Path, max_bytes: int) -> int | None:
    """The log, open and locked against others who would rotate it; None where there is nothing to do."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size > max_bytes:
            return descriptor
    except BlockingIOError:
        pass  # somebody rotates it right now
    os.close(descriptor)
    return None


def _shift(path: Path, keep: int) -> None:
    path.with_name(f"{path.name}.{keep}").unlink(missing_ok=True)
    for number in range(keep - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            os.replace(older, path.with_name(f"{path.name}.{number + 1}"))


# -- the process -------------------------------------------------------------


@dataclass(frozen=True)
class LoggedRun:
    """A run of a service as its record has it, as far as it matters here."""

    pid: int
    start: str
    log: str
    max_bytes: int
    keep: int


def lock_held(folder: Path) -> bool:
    """Whether a process rotates the logs of this ``.voiceops`` folder."""
    descriptor = _lock_file(folder)
    try:
        return not _acquire(descriptor)
    finally:
        os.close(descriptor)


def last_holder(folder: Path) -> int:
    """The pid of the process that rotates, or has rotated last; 0: there was none."""
    try:
        return int((folder / LOCK_NAME).read_text())
    except (OSError, ValueError):
        return 0


def main(folder: Path) -> None:
    """Rotate until no recorded service lives; returns at once where another process does that already."""
    descriptor = _lock_file(folder)
    while _acquire(descriptor):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        while runs := living(folder / "state"):
            _rotate(runs)
            _wait(runs)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        # A start that found the lock taken a moment ago relies on us.
        if not living(folder / "state"):
            return


def living(state: Path) -> list[LoggedRun]:
    """The recorded runs whose process lives."""
    runs = []
    for name in glob.glob(str(glob.escape(str(state))) + "/*.json"):
        try:
            with open(name, "rb") as file:
                records = json.load(file)["records"]
            for one in records:
                run = LoggedRun(
                    one["pid"], one["start"], one["log"], one.get("log_max_bytes", 0), one.get("log_keep", 0)
                )
                if run.pid and _lives(run):
                    runs.append(run)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged, which `check-running` tells, or gone a moment ago
    return runs


def _lives(run: LoggedRun) -> bool:
    """Whether exactly this process lives: its start is as ``adapters.processes.Key`` has it."""
    try:
        if not sys.platform.startswith("linux"):
            os.kill(run.pid, 0)
            return True
        with open(f"/proc/{run.pid}/stat", "rb") as stat, open("/proc/sys/kernel/random/boot_id") as boot:
            fields = stat.read().rpartition(b")")[2].split()
            mark = f"{boot.read().strip()[:8]}:{int(fields[19])}"
    except OSError:
        return False
    return mark == run.start and fields[0] not in (b"Z", b"X", b"x")


def _rotate(runs: list[LoggedRun]) -> None:
    for log, max_bytes, keep in {(run.log, run.max_bytes, run.keep) for run in runs if run.max_bytes}:
        try:
            rotate_running(Path(log), max_bytes, keep)
        except OSError:
            continue  # a full or read-only disk: tried again, and each command that rotates says so


def _wait(runs: list[LoggedRun]) -> None:
    """Until one of them ends, at most ``INTERVAL_S``."""
    poller = select.poll()
    descriptors = []
    try:
        for run in runs:
            descriptors.append(os.pidfd_open(run.pid))
            poller.register(descriptors[-1], select.POLLIN)
        poller.poll(int(INTERVAL_S * 1000))
    except (AttributeError, OSError):
        time.sleep(0.1 if hasattr(os, "pidfd_open") else 1.0)  # gone in between, or no pidfd here
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _lock_file(folder: Path) -> int:
    return os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _acquire(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
