"""Documents of init, inventory, token, completion, schedule and test."""

from __future__ import annotations

from typing import TypedDict

from voiceops.model.documents.common import FileEntry, HostFailure, ResourceEntry
from voiceops.model.documents.servers import ResourcesHost


class InitDocument(TypedDict):
    """``inv init``."""

    changed_count: int
    files: dict[str, FileEntry]


class CompletionDocument(TypedDict):
    """``inv completion``; with --install the files are written."""

    shell: str
    """bash, zsh or fish."""
    script: str
    changed_count: int
    files: dict[str, FileEntry]


class TokenDocument(TypedDict):
    """``inv token``."""

    url: str
    room: str
    identity: str
    token: str
    link: str
    expires_at: str
    expires_in_s: float


class OpenDocument(TypedDict):
    """``inv open``."""

    url: str
    opened: bool
    """Whether a browser was asked to show it; never with --json."""


class InventoryDocument(TypedDict):
    """``inv inventory --json``: what ``ansible-inventory --list`` prints."""

    inventory: dict[str, object]


class InventoryHostDocument(TypedDict):
    """``inv inventory --host NAME --json``."""

    host: str
    variables: dict[str, object]


class InventoryGraphDocument(TypedDict):
    """``inv inventory --graph --json``."""

    graph: list[str]
    """The lines of the tree."""


class ScheduledJob(TypedDict):
    """One scheduled job of this machine."""

    name: str
    cron: str
    script: str


class ScheduleHost(TypedDict):
    """The cron entries or timers of this machine."""

    ok: bool
    changed_count: int
    how: str | None
    """cron or a kind of systemd timer; null where nothing is scheduled."""
    jobs: list[ScheduledJob]
    resources: list[ResourceEntry]


class ScheduleDocument(TypedDict):
    """``inv schedule``."""

    check: bool
    changed_count: int
    hosts: dict[str, ScheduleHost | ResourcesHost | HostFailure]


class TimedTest(TypedDict):
    """One of the slowest tests."""

    test: str
    took_s: float


class StageEntry(TypedDict):
    """One stage: checks, unit or integration."""

    took_s: float


class TestsDocument(TypedDict):
    """``inv test``."""

    passed_count: int
    failed_count: int
    skipped_count: int
    stages: dict[str, StageEntry]
    failures: list[str]
    flaky: list[str]
    slowest: list[TimedTest]
