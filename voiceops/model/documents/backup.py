"""Documents of backup and restore."""

from __future__ import annotations

from typing import TypedDict

from voiceops.model.documents.common import HostFailure


class BackupEntry(TypedDict):
    """One backup that was written and tried."""

    service: str
    file: str
    byte_count: int
    object_count: int
    """What the scratch instance held after it was restored there: tables, or keys."""
    took_s: float
    removed: list[str]
    """Older backups that are gone, by --keep."""


class BackupHost(TypedDict):
    """The backups of one host."""

    ok: bool
    backups: list[BackupEntry]


class BackupDocument(TypedDict):
    """``inv backup``."""

    changed_count: int
    hosts: dict[str, BackupHost | HostFailure]


class RestoreEntry(TypedDict):
    """One service whose data were replaced by a backup."""

    service: str
    file: str
    object_count: int
    replaced_count: int
    """How much it held before."""
    took_s: float


class RestoreHost(TypedDict):
    """What was restored on one host."""

    ok: bool
    restored: list[RestoreEntry]


class RestoreDocument(TypedDict):
    """``inv restore``."""

    changed_count: int
    hosts: dict[str, RestoreHost | HostFailure]
