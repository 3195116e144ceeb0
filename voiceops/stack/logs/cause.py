"""The exception that a service's log ends with, as one line: what was raised, and in which file and line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_FRAME = re.compile(r'\s*File "([^"]+)", line (\d+)')
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning)\b.*|[A-Za-z_][\w.]*: .*")
_RELEASE = re.compile(r".*/releases/[^/]+/(?!venv/)")
_LIBRARY = re.compile(r"/(site-packages|lib/python[\d.]+)/|^<")
_LONGEST = 300


def raised_in(lines: Sequence[str], folder: Path | None = None) -> str:
    """``RuntimeError: no database (agent.py:31)`` of the last traceback in a log; empty without one.

    Files below ``folder`` are named from there.

    Reads plain tracebacks and the ``exc_info`` of JSON lines. The line named is the innermost one of
    the service's own code: the last frame is often a library's.
    """
    found = ""
    frames: list[tuple[str, str]] = []
    for line in _flat(lines):
        frame = _FRAME.match(line)
        if frame:
            frames.append((frame.group(1), frame.group(2)))
        elif frames and _RAISED.fullmatch(line):
            path, number = _own(frames)
            if folder is not None:
                path = path.removeprefix(f"{folder}{os.sep}")
            found = f"{line[:_LONGEST]} ({_RELEASE.sub('', path)}:{number})"
            frames = []
        elif line.startswith("Traceback (most recent call last)"):
            frames = []
    return found


def raised_by(pid: int, lines: Sequence[str], folder: Path | None = None) -> str:
    """The same of what one process has logged; of all lines where it has logged no exception.

    An older worker whose calls go on writes to the same log.
    """
    own = [line for line in lines if _fields(line).get("pid") == pid]
    return raised_in(own, folder) or raised_in(lines, folder)


def _fields(line: str) -> dict[str, object]:
    if not line.startswith("{"):
        return {}
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _flat(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("{"):
            fields = _fields(line)
            for key in ("message", "traceback", "exc_info"):
                yield from str(fields.get(key, "")).splitlines()
        else:
            yield line.rstrip()


def _own(frames: Sequence[tuple[str, str]]) -> tuple[str, str]:
    released = [frame for frame in frames if _RELEASE.match(frame[0])]
    own = [frame for frame in frames if not _LIBRARY.search(frame[0])]
    return (released or own or list(frames))[-1]
