"""Content hashes of files, remembered for the big ones: a no-op must not read a 75 MB binary again."""

from __future__ import annotations

import json
import os
import time

from voiceops.remote.onhost.disk import write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REMEMBER_BYTES = 1 << 20
SETTLED_S = 2.0
"""A file that changed more lately could change again within one tick of its timestamps."""


def new_sha256(small: bool) -> Any:
    """For small files CPython's own: hashlib loads OpenSSL, which takes longer than all hashes of a no-op."""
    for name in ("_sha256", "_sha2") if small else ():
        try:
            return __import__(name).sha256()
        except ImportError:
            pass
    import hashlib

    return hashlib.sha256()


def file_sha256(path: str, small: bool = False, flags: int = 0) -> str:
    digest = new_sha256(small)
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags), "rb") as file:
        while True:
            data = file.read(1 << 20)
            if not data:
                return str(digest.hexdigest())
            digest.update(data)


class Hashes:
    """Keyed by inode, size, mtime and ctime: nobody but root sets ctime back, by moving the clock."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "hashes")
        self._known: dict[str, list[object]] | None = None
        self._dirty = False

    def sha256(self, path: str, found: os.stat_result, at: str = "") -> str:
        """``at``: another name of it, to read it by; a link or a FIFO that took its place is not opened."""
        flags = os.O_NOFOLLOW | os.O_NONBLOCK if at else 0
        if found.st_size < REMEMBER_BYTES:
            return file_sha256(at or path, small=True, flags=flags)
        if self._known is None:
            self._known = self._load()
        key = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
        entry = self._known.get(path)
        if entry and entry[:-1] == key:
            return str(entry[-1])
        started = time.time()
        sha256 = file_sha256(at or path, flags=flags)
        if started - max(found.st_ctime, found.st_mtime) > SETTLED_S:
            self._known[path] = [*key, sha256]
            self._dirty = True
        return sha256

    def _load(self) -> dict[str, list[object]]:
        try:
            with open(self._path) as file:
                known = json.load(file)
        except (OSError, ValueError):
            return {}
        if not isinstance(known, dict):
            return {}
        return {path: entry for path, entry in known.items() if isinstance(entry, list)}

    def save(self) -> None:
        """Once per run, if there is something new. Losing it costs time only, so it is not synced."""
        if not self._dirty or self._known is None:
            return
        kept = {path: entry for path, entry in self._known.items() if os.path.exists(path)}
        write_file(self._path, json.dumps(kept).encode(), 0o600)
