"""The audit log: who had which command run, when, and how it ended. A line before it begins, and one after it."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

import msgspec

from voiceops.util.atomic_write import write_error

log = logging.getLogger(__name__)

_TAIL_BYTES = 64 * 1024
_BEGINS_WITHIN_S = 5.0


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One command of an operator. Nothing here names a caller or a room."""

    id: str
    at: float
    action: str
    service: str = ""
    """Of a restart."""
    hosts: tuple[str, ...] = ()
    """Empty: this machine."""
    drop_calls: bool = False
    by: str
    ended_at: Union[float, None] = None
    """None: it runs still, or nobody saw it end."""
    exit_code: Union[int, None] = None
    said: str = ""
    """What the command said at its end."""


class AuditLog:
    """A file of JSON lines, for its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned = False

    def write(self, entry: AuditEntry) -> None:
        """Append a line and wait until it is on the disk; ``StorageError`` where it can't be."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o600)
            try:
                os.write(descriptor, msgspec.json.encode(entry) + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise write_error(self.path.parent, error) from error

    @contextmanager
    def running(self, entry: AuditEntry) -> Iterator[None]:
        """Say to other processes, while the block lasts, that this command runs; an end by a signal ends it, too."""
        # A lock by flock belongs to the open file: other descriptors of this process, as write() has, don't drop it.
        with self._lock_file(entry).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                self._lock_file(entry).unlink(missing_ok=True)

    def is_running(self, entry: AuditEntry) -> bool:
        """Whether another process runs it; what was begun a moment ago may not have said so yet."""
        try:
            with self._lock_file(entry).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            pass  # there is none, or the line was edited
        return 0 <= time.time() - entry.at < _BEGINS_WITHIN_S

    def _lock_file(self, entry: AuditEntry) -> Path:
        return self.path.with_name(f"{self.path.name}.{entry.id}")

    def last(self, count: int) -> list[AuditEntry]:
        """The newest entries, the oldest first; lines that are cut or damaged are left out, and all of them where it can't be read."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            # Callers' pages come from the same process: they don't wait for somebody to repair this file.
            if not self._warned:
                log.warning("the audit log can't be read", extra={"error": type(error).__name__})
            self._warned = True
            return []
        found: dict[str, AuditEntry] = {}
        for line in lines:
            try:
                entry = msgspec.json.decode(line, type=AuditEntry)
            except msgspec.DecodeError:
                continue
            found[entry.id] = entry
        return list(found.values())[-count:]


def new_entry(
    number: str, action: str, service: str, *, hosts: tuple[str, ...] = (), by: str, drop_calls: bool
) -> AuditEntry:
    """Return the entry of a command that begins now."""
    return AuditEntry(
        id=number,
        at=time.time(),
        action=action,
        service=service,
        hosts=hosts,
        by=by,
        drop_calls=drop_calls,
    )
