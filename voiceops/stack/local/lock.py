"""One command at a time changes the stack: a lock that dies with its owner.

``flock`` belongs to the open file, so the kernel frees it with the last process that
holds it, however that process ended. Started services don't hold it: descriptors are
closed when a program replaces the child.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from voiceops.deadline import Deadline
from voiceops.errors import LockedError
from voiceops.util.atomic_write import write_error
from voiceops.util.times import iso_time


@contextmanager
def locked(folder: Path, limit: Deadline, say: Callable[[str], None], command: str) -> Iterator[None]:
    """Hold the lock of this ``.voiceops`` folder; ``LockedError`` names who has it when time is up."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        _acquire(descriptor, limit, say)
        _sign(descriptor, command)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, limit: Deadline, say: Callable[[str], None]) -> None:
    pause_s = 0.01
    told_at = time.monotonic() + 0.5  # a short wait needs no words
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        if limit.expired:
            owner = _owner(descriptor)
            raise LockedError(
                f"another command holds the lock: {_describe(owner)}",
                hint="wait for it, give --timeout, or end that process: the lock falls with it",
                data=_owner_data(owner),
            )
        if told_at and time.monotonic() > told_at:
            say(f"waiting for another command: {_describe(_owner(descriptor))}")
            told_at = 0.0
        time.sleep(min(pause_s, limit.remaining_s))
        pause_s = min(0.1, pause_s * 1.5)


def _sign(descriptor: int, command: str) -> None:
    owner = {"pid": os.getpid(), "command": command, "since": time.time(), "user": os.getuid()}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)
    except OSError as error:
        if error.errno != 28:  # on a full disk the lock still works, only its owner's name is missing
            raise write_error(Path(".voiceops"), error) from error


def _owner(descriptor: int) -> dict[str, object]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _owner_data(owner: dict[str, object]) -> dict[str, object]:
    since = owner.get("since")
    return {
        "owner": str(owner.get("command", "")),
        "pid": owner.get("pid"),
        "since": iso_time(since) if isinstance(since, float) else None,
    }


def _describe(owner: dict[str, object]) -> str:
    if not owner:
        return "its owner can't be read"
    since = owner.get("since")
    held = f", for {max(0.0, time.time() - since):.0f} s" if isinstance(since, float) else ""
    return f"pid {owner.get('pid')} ({owner.get('command')}{held})"


def this_command() -> str:
    """How the owner of the lock is named to others; arguments carry no secrets in voiceops."""
    return " ".join(["inv", *sys.argv[1:]])[:200]
