"""What the monitor remembers between two checks, and between two runs of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Union

import msgspec

from voiceops.errors import StorageError
from voiceops.util.atomic_write import write_atomically

MEMORY_FILE = "monitor/memory.json"
"""Below the project's state folder."""


class OpenIncident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that goes on."""

    incident: str
    cause: str
    sentence: str
    fix: str
    began_at: float
    """Seconds since the epoch."""
    rule: str = ""
    """Of the finding that sentence and fix are from; empty: they are the monitor's own."""


class ServiceMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What earlier checks found of one service. Times without other words are seconds since boot."""

    restart_count: int = 0
    """Restarts since it was well for ``WELL_FOR_S``."""
    not_before: float = 0.0
    """The next restart waits until then."""
    well_since: Union[float, None] = None
    cause: str = ""
    """What was wrong at the last check; empty: nothing."""
    seen_count: int = 0
    """Checks in a row that found this cause."""
    cause_since: float = 0.0
    incident: Union[OpenIncident, None] = None
    resumed: bool = False
    """It was stopped by the kernel and made to go on since it was well for ``WELL_FOR_S``."""
    gave_up: bool = False


class RepairMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Repairs of one finding in one place."""

    since: Union[float, None] = None
    """Since when it is found there, without a break; None: it is not."""
    count: int = 0
    not_before: float = 0.0


class FindingMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What earlier diagnoses found of one rule. Times without other words are seconds since boot."""

    seen_count: int = 0
    """Diagnoses in a row that found it."""
    since: float = 0.0
    absent_since: Union[float, None] = None
    """Since when no diagnosis has found it; its repairs are remembered for a while."""
    incident: Union[OpenIncident, None] = None
    alerted: bool = False
    repairs: dict[str, RepairMemory] = {}
    """By the sid of the room; empty: in none."""


class MonitorMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ``decide`` carries from one check to the next."""

    boot: str = ""
    """The boot that the times belong to."""
    services: dict[str, ServiceMemory] = {}
    findings: dict[str, FindingMemory] = {}
    """By rule and service."""
    silent_count: int = 0
    """Checks in a row at which LiveKit did not answer."""
    silent: Union[OpenIncident, None] = None


def open_incidents(memory: MonitorMemory) -> list[tuple[str, OpenIncident]]:
    """Return the incidents that go on, each behind the service that it concerns; empty: the whole stack."""
    of_services = [(name, one.incident) for name, one in memory.services.items() if one.incident is not None]
    of_findings = [
        (key.partition(" ")[2], one.incident)
        for key, one in memory.findings.items()
        if one.incident is not None
    ]
    return [*of_services, *of_findings, *([("", memory.silent)] if memory.silent is not None else [])]


def of_this_boot(memory: MonitorMemory, boot: str) -> MonitorMemory:
    """Return the memory with times that mean something now: those of another boot are dropped, the counts stay."""
    if memory.boot == boot:
        return memory
    services = {
        name: msgspec.structs.replace(one, not_before=0.0, well_since=None, cause_since=0.0, seen_count=0)
        for name, one in memory.services.items()
    }
    findings = {
        key: msgspec.structs.replace(one, seen_count=0, since=0.0, absent_since=None, repairs={})
        for key, one in memory.findings.items()
    }
    return msgspec.structs.replace(memory, boot=boot, services=services, findings=findings)


class MemoryFile:
    """One small JSON file, written by temp file and rename; one that can't be read is as good as none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: MonitorMemory | None = None

    def load(self, boot: str) -> MonitorMemory:
        try:
            memory = msgspec.json.decode(self._path.read_bytes(), type=MonitorMemory)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return MonitorMemory(boot=boot)
        return of_this_boot(memory, boot)

    def save(self, memory: MonitorMemory) -> None:
        """Replace the file if something has changed; ``StorageError`` if it can't be written."""
        if memory == self._written:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, msgspec.json.encode(memory))
        except OSError as error:
            raise StorageError(f"can't write {self._path}: {error.strerror}") from None
        self._written = memory
