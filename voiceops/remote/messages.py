"""What travels to a host and back, verb by verb: the requests and answers of ``verbs``.

Both sides are checked against these types: the programs in ``onhost`` import them for type checkers only.
"""

from __future__ import annotations

from typing import Any, TypedDict


class HostRequest(TypedDict):
    """What every request has."""

    state_dir: str
    """Journal, lock, ledger and caches of the project on the host."""


class _Holder(TypedDict):
    owner: str
    reason: str


class HeldLease(_Holder, total=False):
    """Who holds a host's lock, as its file says."""

    token: str
    expires: float
    boot: str
    pid: int
    held: bool


class _ResourceOutcome(TypedDict):
    id: str
    result: str


class ResourceOutcome(_ResourceOutcome, total=False):
    """What one resource came to on the host: ``result`` and what explains it."""

    changes: list[str]
    note: str
    before: str
    error: str
    kind: str
    log: list[str]
    seconds: float


class FailureEntry(TypedDict):
    """Why a step failed, in results and in error frames."""

    result: str
    error: str
    log: list[str]
    kind: str


class HostFacts(TypedDict):
    """A host before anything was sent to it."""

    python: list[int]
    executable: str
    machine: str
    libc: list[str]
    os: str
    os_version: str
    hostname: str
    uid: int
    systemd: bool
    format: int
    lease: HeldLease | None
    """Who holds the host's lock."""


# -- units and processes ---------------------------------------------------------


class _UnitProperties(TypedDict):
    unit: str
    type: str
    loaded: bool
    masked: bool
    job: int
    active: str
    sub: str
    pid: int
    restarts: int
    cpu_ns: int | None
    memory_bytes: int | None
    result: str
    code: int
    status: int
    environment: str
    files: list[str]
    enabled: str
    text: str
    invocation: str
    age_s: float


class UnitState(_UnitProperties, total=False):
    """One unit as systemd describes it, and what was asked of its process."""

    service: str
    """``PROJECT/SERVICE/DIGEST`` that the process was started with."""
    health: dict[str, Any] | None
    """An agent's answer; None: it gave none that makes sense."""
    url: str
    stopped: bool
    unready: str
    """Why its readiness probe fails now; empty: it does not."""
    refused: bool
    """By what the probe printed it refuses the password that it was asked with."""
    undeployed: list[str]
    """Names of its variables that have another value in its environment file than in the inventory."""
    draining: bool
    """A livekit-server that ends with its last participant."""


class ProcessEntry(TypedDict):
    """One process; ``start`` is in clock ticks since boot."""

    pid: int
    start: int
    unit: str
    command: str
    age_s: float


class PortOwner(ProcessEntry):
    """A process that listens on a port."""

    port: int


class StrayWorker(ProcessEntry):
    """A worker of ours that no unit runs."""

    entry: str
    parent: int
    calls: int | None


class CurrentReleases(TypedDict, total=False):
    """``current.json``: service to its release and digest, and why they are not proved."""

    services: dict[str, dict[str, str]]
    at: float
    unproved: str


class LedgerLine(TypedDict, total=False):
    """One line of the ledger, as ``deploy.ledger.LedgerEntry`` reads it."""

    service: str
    release: str
    result: str
    at: float
    by: str
    action: str
    why: str


class HostProbe(HostRequest):
    """What to observe on a host."""

    patterns: list[str]
    """Units, by name or pattern."""
    ports: list[int]
    entries: list[str]
    """File names of agents, to find those that were started by hand."""
    url: str
    """LiveKit that they serve."""
    opt: str
    releases: list[str]
    """Releases of which to tell whether they are marked bad."""


class HostObservation(TypedDict):
    """The services of a host."""

    units: list[UnitState]
    owners: list[PortOwner]
    workers: list[StrayWorker]
    current: CurrentReleases
    links: dict[str, str]
    bad: dict[str, LedgerLine]


class MemoryRequest(HostRequest):
    """Read memory."""

    units: list[str]


class MemoryAnswer(TypedDict):
    """Memory of a host, and what units take of it."""

    available_bytes: int
    total_bytes: int
    units: dict[str, int]
    """Proportional set size (PSS) of all processes of each unit."""


# -- releases -------------------------------------------------------------------


class ReleasesRequest(HostRequest):
    """What each request about releases has: names of the project on the host."""

    project: str
    opt: str
    etc: str
    group: str


class ListReleases(ReleasesRequest):
    """``will_record``: fail where the disk has no room to write the ledger."""

    will_record: bool


class ReleasesAnswer(TypedDict):
    """The ledger of a host."""

    history: list[LedgerLine]
    current: CurrentReleases
    present: list[str]


class TidyOptions(TypedDict):
    """What must stay when releases are tidied up."""

    units: list[str]
    venv: str
    keep: int


class RecordReleases(ReleasesRequest):
    """What serves now."""

    services: dict[str, dict[str, str]]
    by: str
    action: str
    unproved: str
    tidy: TidyOptions | None
    """None: nothing is removed."""


class RecordAnswer(TypedDict):
    """What was removed."""

    removed: list[str]


class NoteReleases(ReleasesRequest):
    """Entries for the ledger."""

    entries: list[LedgerLine]


# -- resources ------------------------------------------------------------------


class LeaseRequest(TypedDict, total=False):
    """How to hold the host's lock; see ``lease.Lease``."""

    owner: str
    reason: str
    token: str
    lease_s: float
    hold: bool
    wait_s: float
    force: bool


class LockRequest(HostRequest):
    """Take the lock, and keep it for ``stay_s`` or until the controller hangs up."""

    lock: LeaseRequest
    stay_s: float


class LockAnswer(TypedDict):
    """Who holds the lock now."""

    lease: HeldLease | None


class _Resources(HostRequest):
    resources: list[dict[str, Any]]
    diff: bool


class CheckRequest(_Resources):
    """Compare the host with these resources."""

    probe: HostProbe | None


class ApplyRequest(_Resources):
    """Bring the host to these resources."""

    lock: LeaseRequest
    stay_s: float


class _Results(TypedDict):
    results: list[ResourceOutcome]
    failed: str


class ResourcesAnswer(_Results, total=False):
    """One result for each resource, in their order; the first that failed; what the probe asked for."""

    observation: HostObservation
