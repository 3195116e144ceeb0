"""Start the monitor again when it has ended and is still wanted: ``python -I -S guard.py MARK PID COMMAND...``.

Run by path, standard library only: 8 MB. ``MARK`` is the file that says that somebody wants the monitor, ``PID`` the
monitor. It starts a new one by the same command that a person would type, and ends: the new monitor brings a guard of
its own, and watches that one as this one watched it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

PAUSE_S = 0.3
"""Whoever stops the monitor removes the mark first, and ends this process: that goes before."""
BACKOFF_MAX_S = 30.0
STOPPED_LOOKS = 3
"""Looks in a row, a second apart, after which a monitor that is stopped is ended."""
YOUNG_S = 5.0
YOUNG_PAUSE_S = 1.5
"""One that ends so soon would end again: it is not started several times a second."""
_NOT_FOR_OTHERS = ("VOICEOPS_SERVICE", "VOICEOPS_LAUNCH", "NOTIFY_SOCKET")


def main(mark: str, pid: int, command: list[str]) -> None:
    """Wait for the monitor's end, then start it until that works or nobody wants it."""
    began = time.monotonic()
    wait_for_end(pid)
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_OTHERS}
    pause_s = PAUSE_S if time.monotonic() - began > YOUNG_S else YOUNG_PAUSE_S
    while True:
        time.sleep(pause_s)
        if not os.path.exists(mark):
            return
        started = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        if started.returncode == 0:
            return
        pause_s = min(BACKOFF_MAX_S, max(1.0, 2 * pause_s))


def wait_for_end(pid: int) -> None:
    """Return once no process has this pid: the monitor is our parent, so it can't be another one before."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        while os.getppid() == pid:
            time.sleep(1.0)
        return
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    stopped = 0
    while os.getppid() == pid and not poller.poll(1000):
        stopped = stopped + 1 if is_stopped(pid) else 0
        if stopped == STOPPED_LOOKS:
            os.kill(pid, signal.SIGKILL)
    os.close(descriptor)


def is_stopped(pid: int) -> bool:
    """Whether the kernel has stopped it, so that it watches nothing."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[:1] == [b"T"]
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
