"""Commands on a pseudo-terminal of a given size: what they write, and what stands on its screen then."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|.)")


def on_terminal(
    argv: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    columns: int = 80,
    lines: int = 24,
    timeout_s: float = 240.0,
) -> bytes:
    """What the command writes, stdout and stderr together, as a terminal of that size gets it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    kept = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        list(argv), cwd=folder, env=kept, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    written = b""
    try:
        while data := os.read(ours, 65536):
            written += data
    except OSError:  # EIO: the other side is closed
        pass
    finally:
        os.close(ours)
        process.wait(timeout=timeout_s)
    return written


def plain_lines(written: bytes) -> list[str]:
    """The lines without escape sequences; of one that was drawn over, each version."""
    text = ESCAPE.sub("", written.decode(errors="replace"))
    return [part for line in text.split("\n") for part in line.rstrip("\r").split("\r")]


_DRAWN = re.compile(r"\x1b\[(\d+);1H\x1b\[2K([^\x1b\r\n]*(?:\x1b\[[0-9;]*m[^\x1b\r\n]*)*)|(\x1b\[2J)")


class OpenTerminal:
    """A command that runs on a pseudo-terminal and draws over it by ``voiceops.cli.screen``."""

    def __init__(
        self, argv: Sequence[str], *, folder: Path, environment: Mapping[str, str], columns: int, lines: int
    ) -> None:
        self.written = b""
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, lines)
        self.mode = termios.tcgetattr(self._theirs)
        kept = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
        # A session with this terminal as its own: Ctrl-C and a changed size reach it as signals.
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_OWN_TERMINAL, *argv],
            cwd=folder,
            env=kept | {"TERM": "xterm-256color"},
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
        )

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size, of which the command hears by SIGWINCH."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        """Type on its keyboard."""
        os.write(self._ours, keys.encode())

    @property
    def rows(self) -> list[str]:
        """What stands on the screen, without styles."""
        shown: dict[int, str] = {}
        for row, text, cleared in _DRAWN.findall(self.written.decode(errors="replace")):
            if cleared:
                shown.clear()
            else:
                shown[int(row)] = ESCAPE.sub("", text)
        return [shown.get(row, "") for row in range(1, max(shown, default=0) + 1)]

    def wait_for(self, condition: Callable[[OpenTerminal], bool], timeout_s: float = 30.0) -> None:
        """Read until what stands there meets the condition."""
        ends_at = time.monotonic() + timeout_s
        while not condition(self):
            assert time.monotonic() < ends_at, "\n".join(self.rows) or self.written
            if select.select([self._ours], [], [], 0.1)[0]:
                self.written += os.read(self._ours, 65536)

    def end(self, timeout_s: float = 20.0) -> int:
        """Wait for its end; return how it ended."""
        ends_at = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < ends_at, "it did not end"
            if select.select([self._ours], [], [], 0.05)[0]:
                self.written += os.read(self._ours, 65536)
        while select.select([self._ours], [], [], 0.0)[0]:
            self.written += os.read(self._ours, 65536)
        return self.process.returncode

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was: first screen, cursor, what is typed shows."""
        left = self.written.rstrip().rpartition(b"\x1b[?25h\x1b[?1049l")
        entered = b"\x1b[?1049h" in left[2]
        return bool(left[1]) and not entered and termios.tcgetattr(self._theirs)[3] == self.mode[3]

    def __enter__(self) -> OpenTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


_ON_OWN_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
