"""What travels for a diagnosis: the request and the answer of ``verbs.DIAGNOSE``."""

from __future__ import annotations

from typing import TypedDict

from voiceops.remote.messages import HostObservation, HostProbe


class ServiceProbe(TypedDict):
    """How to ask one service whether it does its job. It may hold secrets, which go in on stdin with the request."""

    unit: str
    argv: list[str]
    """Exits 0 if it does; empty: nothing can be asked."""
    env: dict[str, str]
    """Variables of that program, such as a password, beside those of the service."""
    refusals: list[str]
    """Each of them in what the program prints means that the password is refused."""
    environment: str
    """The unit's environment file."""
    lines: dict[str, str]
    """Variables of the inventory, each as the environment file has to have it."""


class DiagnoseRequest(HostProbe):
    """What ``why`` asks beyond."""

    units: list[str]
    """Whose log lines to read."""
    window_s: float
    probes: list[ServiceProbe]
    folders: dict[str, str]
    """Folder to the service whose data it has, if it is there."""


class DiskState(TypedDict):
    """One file system of the project."""

    folder: str
    free_bytes: int
    data: list[str]
    """Services whose data are on it."""
    logs: bool
    """The journal is on it."""


class MachineState(TypedDict):
    """Load and free disk space."""

    cpu_share: float
    disk_free_bytes: int


class HostDiagnosis(HostObservation):
    """A host as ``why`` sees it."""

    now: float
    lines: list[tuple[float, str, str]]
    """Seconds, unit and text, oldest first."""
    machine: MachineState
    disks: list[DiskState]


class JournalEntry(TypedDict, total=False):
    """What is read of a line of systemd's journal."""

    MESSAGE: str | list[int] | None
    INVOCATION_ID: str
    """The run of which systemd tells."""
    _SYSTEMD_INVOCATION_ID: str
    """The run whose process wrote it."""
