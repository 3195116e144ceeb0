"""What a stream can show: colours, its width, a line that is drawn over. The only place that decides it."""

from __future__ import annotations

import os
from typing import TextIO

ERROR = "31"
WARNING = "33"
OK = "32"
COMMAND = "36"
"""What to type next."""
FAINT = "2"
BOLD = "1"
"""The meaning of each colour, in every command."""
_UNKNOWN_COLUMNS = 80


def styled(stream: TextIO) -> bool:
    """Whether escape sequences may be written: to a terminal that knows them, unless NO_COLOR is set.

    https://no-color.org: set to anything but the empty text. A terminal without a TERM knows none.
    """
    return redrawable(stream) and not os.environ.get("NO_COLOR")


def redrawable(stream: TextIO) -> bool:
    """Whether what was written can be drawn over; NO_COLOR is about colours alone."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def columns(stream: TextIO) -> int | None:
    """The width of the terminal behind ``stream``; None where it is none, and lines have no limit."""
    if not stream.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        # Of this stream: shutil asks for stdout's, which may be a file while stderr is a terminal.
        return os.get_terminal_size(stream.fileno()).columns or _UNKNOWN_COLUMNS
    except (OSError, ValueError):
        return _UNKNOWN_COLUMNS


def paint(text: str, style: str) -> str:
    """``text`` in a style; the reader's own colours come back behind it."""
    return f"\033[{style}m{text}\033[0m" if text and style else text
