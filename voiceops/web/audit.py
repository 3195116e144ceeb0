"""The audit log: who had which command run, when, and how it ended. A line before it begins, and one after it."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Union

import msgspec

from voiceops.util.atomic_write import write_error

log = logging.getLogger(__name__)

_TAIL_BYTES = 64 * 1024


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One command of an operator. Nothing here names a caller or a room."""

    id: str
    at: float
    action: str
    service: str = ""
    """Of a restart."""
    drop_calls: bool = False
    by: str
    ended_at: Union[float, None] = None
    """None: it runs still, or nobody saw it end."""
    exit_code: Union[int, None] = None


class AuditLog:
    """A file of JSON lines, for its owner alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, entry: AuditEntry) -> None:
        """Append a line and wait until it is on the disk; ``StorageError`` where it can't be."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, msgspec.json.encode(entry) + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise write_error(self._path.parent, error) from error

    def last(self, count: int) -> list[AuditEntry]:
        """The newest entries, the oldest first; lines that are cut or damaged are left out, and all of them where it can't be read."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            # Callers' pages come from the same process: they don't wait for somebody to repair this file.
            log.warning("the audit log can't be read", extra={"error": type(error).__name__})
            return []
        found: dict[str, AuditEntry] = {}
        for line in lines:
            try:
                entry = msgspec.json.decode(line, type=AuditEntry)
            except msgspec.DecodeError:
                continue
            found[entry.id] = entry
        return list(found.values())[-count:]


def new_entry(number: str, action: str, service: str, *, by: str, drop_calls: bool) -> AuditEntry:
    """Return the entry of a command that begins now."""
    return AuditEntry(id=number, at=time.time(), action=action, service=service, by=by, drop_calls=drop_calls)
