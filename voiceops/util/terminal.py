"""What a stream can show: colours, its width, a line that is drawn over. The only place that decides it."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

ERROR = "31"
WARNING = "33"
OK = "32"
COMMAND = "36"
"""What to type next."""
FAINT = "2"
BOLD = "1"
"""The meaning of each colour, in every command."""


def styled(stream: TextIO) -> bool:
    """Whether escape sequences may be written: to a terminal that knows them, unless NO_COLOR is set.

    https://no-color.org: set to anything but the empty text. A terminal without a TERM knows none.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def columns(stream: TextIO) -> int | None:
    """The width of the terminal behind ``stream``; None where it is none, and lines have no limit."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def paint(text: str, style: str) -> str:
    """``text`` in a style; the reader's own colours come back behind it."""
    return f"\033[{style}m{text}\033[0m" if text and style else text
