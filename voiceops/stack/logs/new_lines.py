"""Read what was added to a log since the last time, through rotation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_LONGEST_LINE = 1_000_000


class NewLines:
    """One log; it is opened for each reading."""

    def __init__(self, file: Path, *, first_bytes: int) -> None:
        """``first_bytes``: so much of the log's end is read the first time."""
        self._file = file
        self._first_bytes = first_bytes
        self._read_to: int | None = None
        """None: not read yet."""

    def read(self) -> Iterator[bytes]:
        """The whole lines that were added, one in memory at a time; a log that can't be read has none."""
        try:
            size = self._file.stat().st_size
        except OSError:
            return
        begin = self._read_to
        if begin is None:
            begin = max(0, size - self._first_bytes)
        elif size < begin:
            # It was rotated: what was not read yet is in the copy, at the same place.
            yield from _lines(self._file.with_name(f"{self._file.name}.1"), begin)
            begin = 0
        self._read_to = begin
        for line in _lines(self._file, begin):
            begin += len(line)
            self._read_to = begin
            yield line


def _lines(file: Path, begin: int) -> Iterator[bytes]:
    """The whole lines from there on; of one that is too long, its parts."""
    try:
        with file.open("rb") as log:
            log.seek(begin)
            while line := log.readline(_LONGEST_LINE):
                if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
                    return  # it is being written
                yield line
    except OSError:
        return
