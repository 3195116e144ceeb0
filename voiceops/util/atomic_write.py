"""Replace a file in one step: readers see the old content or the new one, never a part."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from voiceops.errors import StorageError


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Temp file, fsync, rename, fsync of the folder. Raises ``OSError`` and leaves nothing half written.

    Folders that are missing are made, for their owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask is
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_error(folder: Path, error: OSError) -> StorageError:
    """What a failed write below ``folder`` means to people."""
    if error.errno == errno.ENOSPC:
        hint = "free some space"
    elif error.errno in (errno.EEXIST, errno.ENOTDIR):
        hint = f"a file is where that folder should be: move it away, as by `mv {folder} {folder}.old`"
    else:
        hint = "make the folder writable for this user"
    return StorageError(f"can't write to {folder}: {error.strerror}", hint=hint)
