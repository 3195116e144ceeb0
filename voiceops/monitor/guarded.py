"""Keep a guard beside the monitor: a process that starts it again, and is itself started again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from voiceops.adapters.process import processes
from voiceops.monitor import guard

RESPAWN_PAUSE_S = 1.0
GUARD_LOOK_S = 30.0


def begin_guarding(mark: Path, command: Sequence[str]) -> None:
    """Have one guard as long as this process lives. ``mark``: the file that says that the monitor is wanted."""
    threading.Thread(target=_keep_guard, args=(mark, list(command)), name="guard", daemon=True).start()


def _keep_guard(mark: Path, command: list[str]) -> None:
    # In our session and with our marks: whoever ends what this run has left behind ends the guard, too.
    argv = [sys.executable, "-I", "-S", guard.__file__, str(mark), str(os.getpid()), *command]
    while mark.exists():
        with contextlib.suppress(OSError):  # no memory for another process: tried again
            _await_end(subprocess.Popen(argv, stdin=subprocess.DEVNULL))
        time.sleep(RESPAWN_PAUSE_S)


def _await_end(child: subprocess.Popen[bytes]) -> None:
    """Return when the guard has ended; one that the kernel has stopped guards nothing, and ends here."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GUARD_LOOK_S)
            return
        if processes.is_frozen(child.pid):
            child.kill()
