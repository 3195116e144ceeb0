"""Folders of the user's cache whose content is executed later: only what nobody else can write counts."""

from __future__ import annotations

import os
from pathlib import Path


def private_folder(name: str) -> Path | None:
    """A folder of that name below the cache, made on first use; None where it can't be ours alone."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voiceops" / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    if found.st_uid != os.geteuid() or found.st_mode & 0o022 or not os.access(folder, os.W_OK):
        return None
    return folder
