"""What we know of the runs that we started: one JSON file per service below ``.voiceops/state``.

A record is written before the process exists (intent) and again with its pid, each time
by temp file, fsync and rename. Nothing depends on it alone: every process that we start
carries its service, digest and launch in its environment, and is found again from there.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Union

import msgspec

from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import ProcessKey
from voiceops.kinds.model import Declared
from voiceops.util.atomic_write import write_atomically, write_error


class LaunchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a service."""

    launch: str
    service: str
    kind: str
    digest: str
    release: str = ""
    argv: list[str] = []
    pid: int = 0
    """0: written before the start; the process, if there is one, is found by its environment."""
    start: str = ""
    started_at: float = 0.0
    """Wall clock, for people only."""
    log: str = ""
    log_offset: int = 0
    log_max_bytes: int = 0
    """0: not rotated while it runs; by a record of an older voiceops."""
    log_keep: int = 0
    ready_at: Union[float, None] = None
    """Seconds since boot."""
    signalled_at: Union[float, None] = None
    """Seconds since boot; written before the signal is sent."""
    restart_count: int = 0
    """Runs before this one since the service was stopped the last time."""
    after_ready_due: bool = False
    """What follows its readiness has not run yet, or has failed: it does not count as ready."""
    oneshot: bool = False
    """It ends by itself, and how is written beside the record."""
    stop_signal: str = "TERM"
    stop_timeout_s: float = 10.0

    @property
    def key(self) -> ProcessKey:
        return ProcessKey(self.pid, self.start)


def new_record(service: Declared, launch: str, log_file: Path, *, restart_count: int) -> LaunchRecord:
    """Return the record of a run that is about to start."""
    return LaunchRecord(
        launch=launch,
        service=service.name,
        kind=service.kind,
        digest=service.digest,
        release=service.release,
        argv=list(service.argv),
        start=processes.boot_id(),  # until its process has a mark of its own
        started_at=time.time(),
        log=str(log_file),
        log_offset=log_file.stat().st_size if log_file.exists() else 0,
        oneshot=service.oneshot,
        after_ready_due=service.after_ready is not None,
        stop_signal=service.stop_signal,
        stop_timeout_s=service.stop_timeout_s,
        log_max_bytes=service.log_max_bytes,
        log_keep=service.log_keep,
        restart_count=restart_count,
    )


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: int = 1
    records: list[LaunchRecord] = []


_decoder = msgspec.json.Decoder(_File)
"""Made at import: see ``model.decoding``, records are read side by side."""


class Records:
    """The folder of state files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Several runs of one service are stopped side by side, and share its file.
        self._changing = threading.Lock()

    def services(self) -> list[str]:
        """Names that have a state file."""
        try:
            return sorted(name[:-5] for name in os.listdir(self.folder) if name.endswith(".json"))
        except OSError:
            return []

    def read(self, service: str) -> tuple[list[LaunchRecord], str]:
        """The records, and what is wrong with the file if it can't be read."""
        try:
            data = (self.folder / f"{service}.json").read_bytes()
        except FileNotFoundError:
            return [], ""
        except OSError as error:
            return [], f"state file can't be read: {error.strerror}"
        try:
            return _decoder.decode(data).records, ""
        except msgspec.DecodeError:
            return [], "state file is damaged"

    def write(self, service: str, records: Iterable[LaunchRecord]) -> None:
        """Replace the file in one step, or leave it as it was; no records: remove it."""
        path = self.folder / f"{service}.json"
        kept = list(records)
        try:
            if kept:
                write_atomically(path, msgspec.json.encode(_File(records=kept)))
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error

    def update(self, record: LaunchRecord) -> None:
        """Add the record, or replace the one of the same launch."""
        with self._changing:
            records, _ = self.read(record.service)
            others = [one for one in records if one.launch != record.launch]
            self.write(record.service, [*others, record])

    def remove(self, service: str, launch: str) -> None:
        """Forget one run; safe to call twice."""
        with self._changing:
            records, damage = self.read(service)
            if damage or any(one.launch == launch for one in records):
                self.write(service, [one for one in records if one.launch != launch])
