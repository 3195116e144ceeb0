"""Run a one-shot to its end and write down how it ended.

A program of its own, run by path (``python -I -S oneshot.py RESULT PROGRAM ARGUMENT...``): the command that
started it may be killed meanwhile. It is standard library only and imports nothing of voiceops.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True)
class OneshotResult:
    """How a one-shot ended."""

    exit_status: int
    """Negative: the signal that ended it."""
    took_s: float
    error: str = ""
    """Why its program could not be run."""

    def __str__(self) -> str:
        if self.error:
            return f"can't be run: {self.error}"
        how = f"signal {-self.exit_status}" if self.exit_status < 0 else f"exit {self.exit_status}"
        return f"{how} after {self.took_s:.1f} s"


def read_result(path: Path) -> OneshotResult | None:
    """Return how the run ended; None where it has not, or was killed before it could say."""
    try:
        said = json.loads(path.read_bytes())
        return OneshotResult(int(said["exit_status"]), float(said["took_s"]), str(said["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def main(result: str, *argv: str) -> int:
    """Run the program, pass signals on to it, and write its result before ending with the same code."""
    # Signals are taken by sigwait alone: none is lost before the child is there, or meets another of its pid later.
    awaited = {signal.SIGCHLD, *_FORWARDED}
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # what is ignored may not be kept for sigwait
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    error, began = "", time.monotonic()
    try:
        child = os.posix_spawnp(argv[0], argv, os.environ, setsigmask=(), setsigdef=_IGNORED_BY_PYTHON)
        status = _wait_for(child, awaited)
    except OSError as problem:
        error, status = problem.strerror or str(problem), 127
    _write(result, {"exit_status": status, "took_s": time.monotonic() - began, "error": error})
    return status if status >= 0 else 128 - status


def _wait_for(child: int, awaited: set[signal.Signals]) -> int:
    while True:
        caught = signal.sigwait(awaited)
        if caught is not signal.SIGCHLD:
            os.kill(child, caught)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)


def _write(result: str, said: dict[str, object]) -> None:
    try:
        with open(f"{result}.new", "w") as file:
            json.dump(said, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{result}.new", result)
    except OSError as problem:
        print(f"voiceops: how it ended can't be written down: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
