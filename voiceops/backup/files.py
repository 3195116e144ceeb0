"""The files of backups: ``SERVICE-TIME.SUFFIX`` in one folder for each host, complete under their names or absent."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from voiceops.errors import UsageError, VoiceopsError
from voiceops.util.atomic_write import write_atomically, write_error

_PART = ".part-"
_LOCKED_AFTER_S = 5.0
"""Time in which a file that was just made surely is locked by its maker."""


class BackupUnusableError(VoiceopsError):
    """Raised when a backup was tried and can't be restored."""


@dataclass(frozen=True, slots=True)
class BackupPart:
    """A backup that is being written."""

    stream: IO[bytes]
    file: Path
    target: Path
    """The name that it gets."""


@dataclass(frozen=True, slots=True)
class BackupFolder:
    """The backups of one host."""

    path: Path

    def of(self, service: str, suffix: str) -> list[Path]:
        """Return the backups of a service, the oldest first."""
        name = re.compile(rf"{re.escape(service)}-\d{{8}}T\d{{6}}(\.\d+)?Z{re.escape(suffix)}")
        try:
            return sorted(one for one in self.path.iterdir() if name.fullmatch(one.name))
        except FileNotFoundError:
            return []

    def newest(self, service: str, suffix: str) -> Path:
        """Return the newest backup; ``UsageError`` where there is none."""
        found = self.of(service, suffix)
        if not found:
            raise UsageError(f"there is no backup of {service} in {self.path}", hint="name one by --file")
        return found[-1]

    @contextmanager
    def writing(self, service: str, suffix: str) -> Iterator[BackupPart]:
        """Give a file that gets its name when the block ends well; never that of another backup."""
        try:
            for folder in (self.path.parent, self.path):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            descriptor, part = tempfile.mkstemp(prefix=_PART, dir=self.path)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise write_error(self.path, error) from error
        target = self.path / f"{service}-{_now()}{suffix}"
        try:
            with open(descriptor, "w+b") as file:
                yield BackupPart(file, Path(part), target)
                file.flush()
                os.fsync(descriptor)
            write_atomically(_checksum_file(target), f"{_sha256(Path(part))}  {target.name}\n".encode())
            os.link(part, target)
        except OSError as error:
            raise write_error(self.path, error) from error
        finally:
            os.unlink(part)

    def keep(self, service: str, suffix: str, count: int) -> list[Path]:
        """Remove all but the newest ``count`` backups of a service; returns what was removed."""
        old = self.of(service, suffix)[:-count]
        for one in old:
            one.unlink(missing_ok=True)
            _checksum_file(one).unlink(missing_ok=True)
        return old

    def _sweep(self) -> None:
        """Remove what killed backups have left: whoever writes one holds its lock."""
        for part in self.path.glob(f"{_PART}*"):
            with suppress(BlockingIOError, FileNotFoundError), part.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - part.stat().st_mtime > _LOCKED_AFTER_S:
                    part.unlink()


def refuse_changed(backup: Path) -> None:
    """``BackupUnusableError`` for a backup that is not what was written, as far as a checksum lies beside it."""
    try:
        written = _checksum_file(backup).read_text().partition(" ")[0]
    except FileNotFoundError:
        return
    if written != _sha256(backup):
        raise BackupUnusableError(
            f"{backup} is not what was written: its checksum differs", hint="take another one by --file"
        )


def _checksum_file(backup: Path) -> Path:
    return backup.with_name(f"{backup.name}.sha256")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while data := stream.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def _now() -> str:
    now = time.time()
    return time.strftime(f"%Y%m%dT%H%M%S.{int(now % 1 * 1e6):06d}Z", time.gmtime(now))
