"""Start and end the process that rotates the logs of a stack while its services run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from voiceops.adapters.process import processes
from voiceops.stack.logs import rotation
from voiceops.util.atomic_write import write_error

_ENDS_WITHIN_S = 2.0
_KEPT = ("PATH", "LD_LIBRARY_PATH")


def ensure_rotation(folder: Path) -> None:
    """Have one process rotate the logs of this ``.voiceops`` folder; safe to call again.

    Call it once the record of a started service is written: it ends with the last recorded one.
    ``StorageError`` when it can't be started.
    """
    try:
        if rotation.lock_held(folder):
            return
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", rotation.__file__, str(folder)],
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise write_error(folder, error) from error
    child.returncode = 0  # it outlives us; without this, Popen complains that nobody waited


def await_end_of_rotation(folder: Path) -> None:
    """Wait until the process is gone, if no recorded service lives: a stop leaves nothing behind."""
    pid = rotation.last_holder(folder)
    found = processes.find(pid)
    if found is None or rotation.__file__ not in processes.command_line(pid):
        return
    if rotation.living(folder / "state"):
        return
    if processes.wait_gone([found.key], _ENDS_WITHIN_S):
        processes.kill_all([found.key])
