"""Which files belong to an agent's release, and one digest for all of them."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages"})
_SKIPPED_NAMES = ("*.pyc", "*.pyo", "*.log", "*.tmp", "*.swp", "*~")
_HASHED_BYTES = 8_000_000
"""Larger files (models) count by size and time: to read them at each start would take seconds."""


def release_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the regular files below ``folder`` that a pattern matches, sorted, relative to it.

    Hidden files and folders, bytecode, logs and virtual environments never belong to it.
    """
    matchers = [_pattern(pattern) for pattern in patterns]
    return sorted(
        path for path in _walk(folder) if any(fnmatch.fnmatchcase(f"/{path.as_posix()}", m) for m in matchers)
    )


def _pattern(pattern: str) -> str:
    # fnmatch's * crosses folders; "**/" may also stand for no folder at all.
    return "/" + pattern.removeprefix("./").replace("**/", "*").replace("//", "/")


def _walk(folder: Path) -> Iterator[Path]:
    for current, folders, files in os.walk(folder):
        here = Path(current)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED_FOLDERS
            and not (here / name / "pyvenv.cfg").exists()
        ]
        for name in files:
            if name.startswith(".") or any(fnmatch.fnmatchcase(name, skipped) for skipped in _SKIPPED_NAMES):
                continue
            if (here / name).is_file():
                yield (here / name).relative_to(folder)


def release_digest(folder: Path, patterns: Sequence[str]) -> str:
    """Return a hash that differs when a file of the release is added, removed, renamed or written differently."""
    whole = hashlib.sha256()
    for path in release_files(folder, patterns):
        file = folder / path
        status = file.stat()
        whole.update(f"{path.as_posix()}\0{status.st_mode & 0o111}\0".encode())
        if status.st_size > _HASHED_BYTES:
            whole.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        else:
            whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()[:12]
