"""Log files of services: rotation, the last lines, and one stream merged by time."""

from __future__ import annotations

import heapq
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

import msgspec

from voiceops.kinds.model import Declared
from voiceops.stack.logs import rotation
from voiceops.util.atomic_write import write_error

_TAIL_BYTES = 64_000
_CHUNK_BYTES = 256_000
_STAMP = re.compile(r"^\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)")
_TIME_KEYS = ("timestamp", "ts", "time", "@timestamp")


class _Stamps(msgspec.Struct):
    """What tells the time in a structured line; all else is skipped, not read."""

    timestamp: object = None
    ts: object = None
    time: object = None
    at: object = msgspec.field(default=None, name="@timestamp")


_stamps = msgspec.json.Decoder(_Stamps)


@dataclass(frozen=True, slots=True)
class TimedLine:
    """One line of a service's log; ``at`` in seconds of the wall clock, 0 when nothing tells it."""

    at: float
    service: str
    text: str
    """Bytes that are no UTF-8 are in it as Python's ``surrogateescape`` has them."""
    journaled: bool = False
    """``at`` is the journal's: the text need not tell the time."""


def last_lines(path: Path, offset: int = 0, count: int = 15) -> tuple[str, ...]:
    """The end of the log, nothing from before ``offset``, for people."""
    return tuple(brief(line)[:500] for line in raw_lines(path, offset) if line.strip())[-count:]


def raw_lines(path: Path, offset: int = 0) -> list[str]:
    """The end of the log as it was written, nothing from before ``offset``."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(offset if offset <= size else 0, size - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def brief(text: str) -> str:
    """A structured line as its message and, of a traceback, the one line that says it; others as they are."""
    fields = structured(text)
    if fields is None:
        return text
    message = str(fields.get("message", fields.get("msg", text))).strip()
    trace = str(fields.get("exc_info") or fields.get("error") or "").strip().splitlines()
    first = message.splitlines()[0] if message else ""
    return f"{first}: {trace[-1]}" if trace and trace[-1] not in first else first


def rotate_stopped(path: Path, max_bytes: int, keep: int) -> bool:
    """Move a log aside that has grown over the limit: nobody writes to it, or by its own descriptor."""
    try:
        return rotation.rotate_stopped(path, max_bytes, keep)
    except OSError as error:
        raise write_error(path.parent, error) from error


def rotate_running(path: Path, max_bytes: int, keep: int) -> bool:
    """The same while a service writes."""
    try:
        return rotation.rotate_running(path, max_bytes, keep)
    except OSError as error:
        raise write_error(path.parent, error) from error


def rotate_all(folder: Path, services: Iterable[Declared]) -> list[str]:
    """Rotate what has grown too large; the names of those services. Safe while they write."""
    return [
        service.name
        for service in services
        if rotate_running(folder / f"{service.name}.log", service.log_max_bytes, service.log_keep)
    ]


def structured(text: str) -> Mapping[str, object] | None:
    """The fields of a line that is a JSON object."""
    if not text.startswith("{"):
        return None
    try:
        fields = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        try:
            fields = json.loads(text)  # NaN, and text that is not quite UTF-8
        except ValueError:
            return None
    return fields if isinstance(fields, dict) else None


def tells_time(text: str) -> bool:
    """Whether a line that is no JSON begins with its time."""
    return _STAMP.match(text) is not None


def time_of(text: str) -> float | None:
    """When a line was written: from JSON or a leading ISO time, in seconds; None when it does not say."""
    if not text.startswith("{"):
        found = _STAMP.match(text)
        return _parse(found.group(1)) if found else None
    try:
        values = msgspec.structs.astuple(_stamps.decode(text))
    except (msgspec.DecodeError, UnicodeEncodeError):
        fields = structured(text) or {}  # NaN, or text that is not quite UTF-8
        values = tuple(fields.get(key) for key in _TIME_KEYS)
    for value in values:
        if isinstance(value, (int, float)):
            return float(value) / (1000.0 if value > 1e11 else 1.0)
        if isinstance(value, str):
            return _parse(value)
    return None


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


def lines_of(service: str, path: Path, keep: int, since: float = 0.0) -> Iterator[TimedLine]:
    """All lines, the oldest file first; one without a time inherits that of the line before.

    With ``since`` reading begins close before it: what is older is neither read nor parsed.
    """
    at = 0.0
    for number in range(keep, -1, -1):
        file_path = path.with_name(f"{path.name}.{number}") if number else path
        try:
            file = file_path.open("rb")
        except OSError:
            continue
        with file:
            if since:
                if os.fstat(file.fileno()).st_mtime < since:
                    continue  # written to for the last time before that
                file.seek(_offset_before(file, since))
            for raw in file:
                line = _line(raw, service, at)
                at = line.at
                yield line


def _line(raw: bytes, service: str, at: float) -> TimedLine:
    text = raw.removesuffix(b"\n").decode(errors="surrogateescape")
    return TimedLine(time_of(text) or at, service, text)


def _offset_before(file: BinaryIO, since: float) -> int:
    """Where a line begins that is older than ``since``, and not by much: found from the end backwards."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - _CHUNK_BYTES)
        file.seek(begin)
        data = file.read(end - begin)
        first = data.find(b"\n") + 1 if begin else 0
        position = first
        for raw in data[first:].splitlines(keepends=True) if first or not begin else ():
            at = time_of(raw.decode(errors="replace"))
            if at is not None:
                if at < since:
                    return begin + position
                break
            position += len(raw)
        end = begin
    return 0


def merged(files: Sequence[tuple[str, Path, int]], since: float = 0.0) -> Iterator[TimedLine]:
    """The lines of all services in order of time, from ``since`` on, as they are read."""
    streams = [_ascending(lines_of(service, path, keep, since)) for service, path, keep in files]
    return (line for line in heapq.merge(*streams, key=lambda line: line.at) if line.at >= since)


def _ascending(lines: Iterable[TimedLine]) -> Iterator[TimedLine]:
    """A line is never older than the one above it: its own clock may have been set back."""
    newest = 0.0
    for line in lines:
        newest = max(newest, line.at)
        yield line if line.at == newest else replace(line, at=newest)


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

    def read(self) -> list[TimedLine]:
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
            line = _line(raw, self.service, self._at or time.time())
            self._at = line.at
            lines.append(line)
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
