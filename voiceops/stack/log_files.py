"""Log files of services: rotation, the last lines, and one stream merged by time."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from voiceops.stack.lock import read_only
from voiceops.stack.model import Declared

_TAIL_BYTES = 64_000
_STAMP = re.compile(r"^\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)")
_TIME_KEYS = ("timestamp", "ts", "time", "@timestamp")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a service's log; ``at`` in seconds of the wall clock, 0 when nothing tells it."""

    at: float
    service: str
    text: str


def last_lines(path: Path, offset: int = 0, count: int = 15) -> tuple[str, ...]:
    """The end of the log, nothing from before ``offset``."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(offset if offset <= size else 0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(brief(line)[:500] for line in lines if line.strip())[-count:]


def brief(text: str) -> str:
    """A structured line as its message and, of a traceback, the one line that says it; others as they are."""
    try:
        fields = json.loads(text) if text.startswith("{") else None
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return text
    message = str(fields.get("message", fields.get("msg", text))).strip()
    trace = str(fields.get("exc_info") or fields.get("error") or "").strip().splitlines()
    first = message.splitlines()[0] if message else ""
    return f"{first}: {trace[-1]}" if trace and trace[-1] not in first else first


def rotate_stopped(path: Path, max_bytes: int, keep: int) -> bool:
    """Move a log aside that has grown over the limit: nobody writes to it, or by its own descriptor."""
    try:
        if not path.exists() or path.stat().st_size <= max_bytes:
            return False
        _shift(path, keep)
        if keep > 0:
            os.replace(path, path.with_name(f"{path.name}.1"))
        else:
            path.unlink()
    except OSError as error:
        raise read_only(path.parent, error) from error
    return True


def rotate_running(path: Path, max_bytes: int, keep: int) -> bool:
    """The same while a service writes: copied and cut to nothing, since its descriptor appends."""
    try:
        if not path.exists() or path.stat().st_size <= max_bytes:
            return False
        _shift(path, keep)
        with path.open("rb+") as file:
            if keep > 0:
                with path.with_name(f"{path.name}.1").open("wb") as copy:
                    shutil.copyfileobj(file, copy, 1_000_000)
                    # What came in during the copy; the window that is left is a few microseconds.
                    shutil.copyfileobj(file, copy)
            os.ftruncate(file.fileno(), 0)
    except OSError as error:
        raise read_only(path.parent, error) from error
    return True


def rotate_all(folder: Path, services: Iterable[Declared]) -> list[str]:
    """Rotate what has grown too large; the names of those services. Safe while they write."""
    return [
        service.name
        for service in services
        if rotate_running(folder / f"{service.name}.log", service.log_max_bytes, service.log_keep)
    ]


def _shift(path: Path, keep: int) -> None:
    path.with_name(f"{path.name}.{keep}").unlink(missing_ok=True)
    for number in range(keep - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            os.replace(older, path.with_name(f"{path.name}.{number + 1}"))


def time_of(text: str) -> float | None:
    """When a line was written: from JSON or a leading ISO time, in seconds; None when it does not say."""
    if text.startswith("{"):
        try:
            fields = json.loads(text)
        except ValueError:
            return None
        for key in _TIME_KEYS:
            value = fields.get(key)
            if isinstance(value, (int, float)):
                return float(value) / (1000.0 if value > 1e11 else 1.0)
            if isinstance(value, str):
                return _parse(value)
        return None
    found = _STAMP.match(text)
    return _parse(found.group(1)) if found else None


def _parse(text: str) -> float | None:
    # Python 3.10 reads neither Z, nor a comma, nor fractions of other than 3 or 6 digits.
    text = text.replace(",", ".").replace("Z", "+00:00")
    text = re.sub(r"\.(\d+)", lambda m: "." + m.group(1)[:6].ljust(6, "0"), text)
    text = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.astimezone()).timestamp()


def lines_of(service: str, path: Path, keep: int) -> Iterator[Line]:
    """All lines, the oldest file first; one without a time inherits that of the line before."""
    at = 0.0
    for number in range(keep, -1, -1):
        file_path = path.with_name(f"{path.name}.{number}") if number else path
        try:
            file = file_path.open("r", errors="replace")
        except OSError:
            continue
        with file:
            for raw in file:
                text = raw.rstrip("\n")
                at = time_of(text) or at
                yield Line(at, service, text)


def merged(files: Sequence[tuple[str, Path, int]], since: float = 0.0) -> list[Line]:
    """The lines of all services in order of time, from ``since`` on."""
    import heapq

    streams = [_ascending(lines_of(service, path, keep)) for service, path, keep in files]
    return [line for line in heapq.merge(*streams, key=lambda line: line.at) if line.at >= since]


def _ascending(lines: Iterable[Line]) -> Iterator[Line]:
    """A line is never older than the one above it: its own clock may have been set back."""
    newest = 0.0
    for line in lines:
        newest = max(newest, line.at)
        yield Line(newest, line.service, line.text)


class Follower:
    """New lines of one log from now on, through rotation by rename and by truncation."""

    def __init__(self, service: str, path: Path) -> None:
        self.service = service
        self._path = path
        self._file = self._open()
        self._rest = b""
        self._at = 0.0
        if self._file:
            self._file.seek(0, os.SEEK_END)

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except OSError:
            return None

    def read(self) -> list[Line]:
        """What was written since the last call; whole lines only."""
        data = b""
        if self._file:
            if os.fstat(self._file.fileno()).st_size < self._file.tell():
                self._file.seek(0)
            data = self._file.read()
        if self._replaced():
            if self._file:
                self._file.close()
            self._file = self._open()
            data += self._file.read() if self._file else b""
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = []
        for raw in whole:
            text = raw.decode(errors="replace")
            self._at = time_of(text) or self._at or time.time()
            lines.append(Line(self._at, self.service, text))
        return lines

    def _replaced(self) -> bool:
        try:
            now = os.stat(self._path)
        except OSError:
            return False
        if self._file is None:
            return True
        before = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino)

    def close(self) -> None:
        """Safe to call twice."""
        if self._file:
            self._file.close()
            self._file = None


def parse_since(text: str, now: float) -> float:
    """``90s``, ``10m``, ``2h``, ``1d`` ago, or an ISO time; ``ValueError`` for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if found:
        return now - float(found.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found.group(2)]
    at = _parse(text.strip())
    if at is None:
        raise ValueError(f"{text!r} is neither like 10m nor a time like 2030-01-31T12:00:00")
    return at


def show_time(at: float) -> str:
    """For people: UTC to the millisecond."""
    if not at:
        return "-"
    moment = datetime.fromtimestamp(at, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
