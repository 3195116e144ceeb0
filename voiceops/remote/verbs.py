"""What a host can be asked to do: each verb with its program, its request and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from voiceops.remote import diagnosis_messages, messages, unit_messages

Request = TypeVar("Request", bound="messages.HostRequest")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class HostVerb(Generic[Request, Answer]):
    """One verb. ``program`` is the part of the payload that answers it."""

    name: str
    program: str
    doing: str
    """For error messages: what failed when it fails."""


FACTS: HostVerb[messages.HostRequest, messages.HostFacts] = HostVerb(
    "host.facts", "check", "reading what the host is"
)
CHECK: HostVerb[messages.CheckRequest, messages.ResourcesAnswer] = HostVerb(
    "resources.check", "check", "comparing the host with its desired state"
)
APPLY: HostVerb[messages.ApplyRequest, messages.ResourcesAnswer] = HostVerb(
    "resources.apply", "apply", "bringing the host to its desired state"
)
LOCK: HostVerb[messages.LockRequest, messages.LockAnswer] = HostVerb("lock.hold", "apply", "locking the host")
OBSERVE: HostVerb[messages.HostProbe, messages.HostObservation] = HostVerb(
    "host.observe", "services", "observing its services"
)
DIAGNOSE: HostVerb[diagnosis_messages.DiagnoseRequest, diagnosis_messages.HostDiagnosis] = HostVerb(
    "host.diagnose", "services", "reading its units and logs"
)
MEMORY: HostVerb[messages.MemoryRequest, messages.MemoryAnswer] = HostVerb(
    "host.memory", "services", "reading its memory"
)
START_UNIT: HostVerb[unit_messages.StartUnit, unit_messages.UnitAnswer] = HostVerb(
    "units.start", "services", "starting a unit"
)
WAIT_FOR_UNIT: HostVerb[unit_messages.WaitForUnit, unit_messages.ReadyAnswer] = HostVerb(
    "units.wait", "services", "waiting for a unit"
)
END_UNIT: HostVerb[unit_messages.EndUnit, unit_messages.EndAnswer] = HostVerb(
    "units.end", "services", "ending a unit"
)
END_PROCESS: HostVerb[unit_messages.EndProcess, dict[str, object]] = HostVerb(
    "processes.end", "services", "ending a process"
)
HOLD_CONNECTIONS: HostVerb[unit_messages.HoldConnections, unit_messages.HoldAnswer] = HostVerb(
    "connections.hold", "services", "holding new connections"
)
LIST_RELEASES: HostVerb[messages.ListReleases, messages.ReleasesAnswer] = HostVerb(
    "releases.list", "services", "reading its releases"
)
RECORD_RELEASES: HostVerb[messages.RecordReleases, messages.RecordAnswer] = HostVerb(
    "releases.record", "services", "recording its releases"
)
NOTE_RELEASES: HostVerb[messages.NoteReleases, dict[str, object]] = HostVerb(
    "releases.note", "services", "recording its releases"
)
VERBS: tuple[HostVerb[Any, Any], ...] = (
    FACTS, CHECK, APPLY, LOCK, OBSERVE, DIAGNOSE, MEMORY, START_UNIT, WAIT_FOR_UNIT, END_UNIT, END_PROCESS,
    HOLD_CONNECTIONS, LIST_RELEASES, RECORD_RELEASES, NOTE_RELEASES,
)  # fmt: skip
