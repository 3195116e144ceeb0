"""What every handler shares: failures, plans, and running a child within bounds."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Spec = dict[str, Any]

PAYLOAD_FORMAT = 1
"""Of the request, the results and the state folder; a host with a higher one refuses us.

A lower one, or none, is read as it is: readers skip what they don't know and do without what they miss.
Raise it only for a change that an older reader would get wrong, and then bring the old files over in
``open_folder``.
"""
OUTPUT_LIMIT = 64 * 1024
LOG_LINES = 20
BEAT_S = 5.0
"""A sign of life for the controller at least this often."""


class Failed(Exception):
    """A resource can't be brought to its desired state; ``log`` shows why."""

    def __init__(self, message: str, log: Sequence[str] = (), kind: str = "failed") -> None:
        super().__init__(message)
        self.message = message
        self.log = list(log)
        self.kind = kind


class Child:
    """How a child process ended, with the end of its output."""

    __slots__ = ("code", "output")

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.output = output

    def tail(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.strip()][-LOG_LINES:]


class Cancel:
    """Set once the controller is gone or asked to stop; children in the way are ended."""

    def __init__(self) -> None:
        self.reason = ""

    def check(self) -> None:
        if self.reason:
            raise Failed(f"stopped: {self.reason}", kind="cancelled")


def run_child(
    argv: Sequence[str],
    cancel: Cancel,
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout_s: float = 60.0,
    errors: bool = True,
    whole: bool = False,
    limit: int = OUTPUT_LIMIT,
) -> Child:
    """Run a program to its end; of its output the last ``limit`` bytes count. ``whole``: it is never cut."""
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
    }
    environment["HOME"] = os.environ.get("HOME", "/root")
    environment.update(env or {})
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
            env=environment,
            cwd=cwd,
            start_new_session=True,  # a hangup of the ssh session must not cut a package manager in two
        )
    except FileNotFoundError as error:
        raise Failed(f"{error.filename}: not found on the host") from None
    except OSError as error:
        raise Failed(f"{argv[0]}: {error.strerror}") from None
    if process.stdin:
        try:
            process.stdin.write(stdin)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended without reading: its exit code says why
    output = _drain(process, Cancel() if whole else cancel, argv[0], timeout_s, limit)
    return Child(process.wait(), output.decode("utf-8", "replace"))


def _drain(
    process: subprocess.Popen[bytes], cancel: Cancel, name: str, timeout_s: float, limit: int
) -> bytes:
    """Read until the pipe closes or the process ends (a daemon may keep the pipe open)."""
    ends_at = time.monotonic() + timeout_s
    assert process.stdout is not None
    fd = process.stdout.fileno()
    kept = b""
    with process.stdout:
        while True:
            if select.select([fd], [], [], 0.2)[0]:
                data = os.read(fd, 65536)
                if not data:
                    return kept
                kept = (kept + data)[-limit:]
            elif process.poll() is not None:
                return kept
            if cancel.reason or time.monotonic() > ends_at:
                _end(process)
                cancel.check()
                lines = kept.decode("utf-8", "replace").splitlines()[-LOG_LINES:]
                raise Failed(f"{name} took longer than {timeout_s:g} s", lines)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, patience_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience_s)
            return
        except ProcessLookupError:
            process.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def expect(child: Child, what: str) -> Child:
    """The child, or ``Failed`` with the end of its output."""
    if child.code != 0:
        ended = f"was ended by signal {-child.code}" if child.code < 0 else f"exited {child.code}"
        raise Failed(f"{what} {ended}", child.tail())
    return child
