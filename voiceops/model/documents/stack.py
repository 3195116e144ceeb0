"""Documents of start, stop, restart, check-running, status, logs and rotate-logs."""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import NotRequired

from voiceops.errors import ErrorEntry
from voiceops.model.documents.common import CallEntry, FindingEntry, HostFailure, ServiceEntry
from voiceops.model.states import ServiceState


class StackHost(TypedDict):
    """One host after start, stop or restart."""

    ok: bool
    services: dict[str, ServiceEntry]


class StackDocument(TypedDict):
    """``inv start``, ``inv stop``, ``inv restart``; ``error`` says why the call of --verify was not answered."""

    changed_count: int
    """Services that the command changed."""
    hosts: dict[str, StackHost | HostFailure]
    call: NotRequired[CallEntry]
    """The call of --verify, if it was answered."""
    error: NotRequired[ErrorEntry]


class CheckedService(TypedDict):
    """Whether there is exactly one live, ready instance of a service."""

    state: ServiceState
    pids: list[int]
    detail: str


class CheckedHost(TypedDict):
    """The services of one host, compared with what is declared."""

    ok: bool
    services: dict[str, CheckedService]


class CheckRunningDocument(TypedDict):
    """``inv check-running``."""

    hosts: dict[str, CheckedHost | HostFailure]


class DrainingRun(TypedDict):
    """A run of an agent that takes no calls any more and ends with its last one."""

    pid: int
    release: str
    uptime_s: float
    call_count: int | None
    """Null where it does not answer: it may have calls."""


class StatusService(TypedDict):
    """One service as it runs now."""

    state: ServiceState
    pids: list[int]
    detail: str
    uptime_s: float | None
    restart_count: int
    """How often it was started again since it was stopped the last time; on servers, by systemd."""
    cpu_share: float | None
    """Of one CPU, 1.0 is all of it, while the command looked; null where it is not known."""
    memory_bytes: int | None
    release: str
    call_count: int | None
    """Null where an agent does not answer: it may have calls."""
    draining: list[int]
    draining_runs: list[DrainingRun]
    """The same, oldest first."""


class LiveCallEntry(TypedDict):
    """A room with a person in it."""

    room: str
    joined_at: str | None
    """When the first of those who are there came."""
    age_s: float | None
    persons: list[str]
    agent_identities: list[str]
    """Empty: nobody answers."""


class StatusHost(TypedDict):
    """One host: its services and the rooms of its LiveKit."""

    ok: bool
    services: dict[str, StatusService]
    release: str
    call_count: int | None
    room_count: int | None
    """Null where the host runs no LiveKit, or it can't be asked."""
    url: str
    """Of the LiveKit that the host runs; empty where it runs none."""
    live_calls: list[LiveCallEntry]


class StatusDocument(TypedDict):
    """``inv status``."""

    hosts: dict[str, StatusHost | HostFailure]


class LogLine(TypedDict):
    """One line of a service's log; with --follow --json each is a document of its own."""

    at: str | None
    """UTC to the millisecond; null where the line has no time."""
    service: str
    line: str
    host: NotRequired[str]
    """Where several hosts are asked."""


class LogsDocument(TypedDict):
    """``inv logs``."""

    lines: list[LogLine]
    hosts: NotRequired[dict[str, HostFailure]]
    """Hosts whose journal can't be read."""


class RotatedHost(TypedDict):
    """The logs of one host."""

    ok: bool
    rotated: list[str]
    """Services whose logs were rotated."""
    detail: str


class RotateLogsDocument(TypedDict):
    """``inv rotate-logs``."""

    changed_count: int
    hosts: dict[str, RotatedHost]


class MonitoredHost(TypedDict):
    """One check of a host's stack."""

    ok: bool
    services: dict[str, str]
    """Service -> its state."""
    room_count: int | None
    """None: LiveKit does not answer, or this host has nothing to do with one."""
    took_s: float
    held_by: str
    """Who holds the lock, so that a monitor would not act; empty: nobody."""
    findings: list[FindingEntry]
    """What the rules of `why` call an error."""


class MonitorDocument(TypedDict):
    """``inv monitor --once``."""

    hosts: dict[str, MonitoredHost | HostFailure]
