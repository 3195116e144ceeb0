"""Runs a command on a pseudo-terminal of a given size and returns what it wrote there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
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
