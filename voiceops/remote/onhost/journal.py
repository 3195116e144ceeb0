"""The journal on the host: one line per step, synced before the step.

A run that was killed between "configuration written" and "unit restarted" left a line that says which
unit has to be restarted.
"""

from __future__ import annotations

import json
import os
import time

from voiceops.remote.onhost.disk import naming, sync_path, write_all, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


JOURNAL_LIMIT = 256 * 1024


class Journal:
    """Steps begun and ended; what must still wake is read from it."""

    def __init__(self, folder: str, *, readonly: bool) -> None:
        self._path = os.path.join(folder, "journal")
        self._fd = -1
        self._readonly = readonly
        self.pending: dict[str, set[str]] = {}
        """Units and commands that must still act, with the changes that ask for it."""
        self.interrupted: set[str] = set()
        """Steps that began and never ended."""
        self._replay()

    def _replay(self) -> None:
        try:
            with open(self._path, "rb") as file:
                lines = file.read().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a full disk or a crash cuts a line in two; its step never began
            if isinstance(entry, dict):
                self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        if "intent" in entry:
            self.interrupted.add(entry["intent"])
            for target in entry.get("wakes", ()):
                self.pending.setdefault(target, set()).add(entry["intent"])
        elif "done" in entry:
            self.interrupted.discard(entry["done"])
            self.pending.pop(entry["done"], None)
        elif "failed" in entry:
            self.interrupted.discard(entry["failed"])

    def begin(self, run: dict[str, object]) -> None:
        """Open for writing; a long journal shrinks to what is still pending."""
        if self._readonly:
            return
        try:
            if os.path.getsize(self._path) > JOURNAL_LIMIT:
                self._compact()
        except FileNotFoundError:
            pass
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._append(b"\n")  # ends a line that a crash cut off
        self.write({"run": run})
        sync_path(os.path.dirname(self._path))

    def _compact(self) -> None:
        wakes: dict[str, list[str]] = {}
        for target, causes in self.pending.items():
            for cause in causes:
                wakes.setdefault(cause, []).append(target)
        entries = [
            {"intent": cause, "wakes": wakes.get(cause, [])}
            for cause in sorted(self.interrupted | set(wakes))
        ]
        write_file(self._path, b"".join(json.dumps(entry).encode() + b"\n" for entry in entries), 0o600)

    def write(self, entry: dict[str, object]) -> None:
        """One line on disk before this returns."""
        self._take(entry)
        if self._fd >= 0:
            self._append(json.dumps({**entry, "at": round(time.time(), 3)}).encode() + b"\n")
            os.fsync(self._fd)

    def _append(self, data: bytes) -> None:
        with naming(self._path):
            write_all(self._fd, data)

    def intent(self, resource: str, wakes: Iterable[str] = ()) -> None:
        self.write({"intent": resource, "wakes": sorted(wakes)})

    def done(self, resource: str) -> None:
        self.write({"done": resource})
