"""Letta's own Python environment: what it is pinned to would break other programs, and theirs would break it."""

from __future__ import annotations

import hashlib
import sys
from functools import lru_cache
from pathlib import Path

from voiceops.adapters.binaries.letta_install import LOCK, install
from voiceops.adapters.binaries.progress import OnProgress, cache_folder

VERSION = "0.16.8"
"""Of ``letta.lock``; a later product of that name is another one."""


def python() -> Path:
    """The interpreter of the environment, whether it is there or not."""
    return _folder() / "bin" / "python"


def fetch(on_progress: OnProgress) -> Path:
    """Return the interpreter; the environment is built once in the user's cache, and shared by all projects."""
    if not _folder().exists():
        install(_folder(), on_progress)
    return python()


def _folder() -> Path:
    python = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    return cache_folder() / "letta" / f"{VERSION}-{_lock_digest()}-{python}"


@lru_cache(maxsize=1)
def _lock_digest() -> str:
    """Of another lock it is another environment: one that is in use is never changed."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()[:8]
