"""A folder of this user's own for sockets and locks that need not survive a boot.

Names below ``/tmp`` can be taken by anybody first, so a folder counts only if it is a real
folder, ours, and writable for nobody else. Whoever has found it so may use names in it: only
its owner can exchange them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from voiceops.errors import StorageError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_TEMPORARY = Path("/tmp")
_SESSIONS = Path("/run/user")


def runtime_folder(*, outlives_session: bool) -> Path:
    """The folder, whether it exists already or not; ``make_private`` makes it.

    ``XDG_RUNTIME_DIR`` (or what systemd would set it to: cron has no such variable), else
    ``/tmp/voiceops-UID``. With ``outlives_session`` in the opposite order: systemd removes the
    runtime folder when the user logs out, services run on, and the variable would make cron and
    a terminal look for their sockets in different places. ``StorageError`` when each is foreign.
    """
    uid = os.getuid()
    temporary = _TEMPORARY / f"voiceops-{uid}"
    named = "" if outlives_session else os.environ.get("XDG_RUNTIME_DIR", "")
    bases = [*([Path(named)] if named else []), _SESSIONS / str(uid)]
    sessions = [base / "voiceops" for base in bases if is_private(base)]
    for folder in [temporary, *sessions] if outlives_session else [*sessions, temporary]:
        if is_private(folder) or not os.path.lexists(folder):
            return folder
    raise _foreign(temporary)


def make_private(folder: Path) -> None:
    """Make the folder for this user alone; safe to call again. ``StorageError`` if it is not ours."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_private(folder):
        raise _foreign(folder)


def is_private(folder: Path) -> bool:
    """Whether this is a real folder of ours that nobody else can write to."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return found.st_uid == os.getuid() and not found.st_mode & _OTHERS_WRITE


def _foreign(folder: Path) -> StorageError:
    return StorageError(
        f"{folder} belongs to another user, or others can write to it",
        hint="remove it, or run as the user that owns it",
    )
