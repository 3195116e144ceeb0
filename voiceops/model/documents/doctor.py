"""Documents of why, recover, call and capacity."""

from __future__ import annotations

from typing import Literal, TypedDict

from typing_extensions import NotRequired

from voiceops.errors import ErrorEntry
from voiceops.model.documents.common import CallEntry, FindingEntry, HostFailure


class FixEntry(TypedDict):
    """One step of --fix and how it went."""

    command: str
    done: bool
    """False also for what only a person can do."""
    detail: str


class WhyHost(TypedDict):
    """What was seen and done on one host; its findings stand in the document's ``findings``."""

    ok: bool
    fixes: list[FixEntry]
    problems: list[str]
    """What could not be observed."""


class WhyDocument(TypedDict):
    """``inv why``; ``error`` says that no host has the room of --room."""

    findings: list[FindingEntry]
    """Of all hosts, the most likely cause first."""
    hosts: dict[str, WhyHost | HostFailure]
    error: NotRequired[ErrorEntry]


class StepEntry(TypedDict):
    """One step of recover, and the call that proved it."""

    step: str
    """diagnose, fix, rooms, agents or stack."""
    did: str
    took_s: float
    detail: str
    """Why the step failed."""
    answered: NotRequired[bool]
    call: NotRequired[str]
    audio_s: NotRequired[float]


class RecoverHost(TypedDict):
    """How it went on one host."""

    ok: bool
    changed: bool
    helped: str | None
    """The step after which a call was answered."""
    took_s: float
    steps: list[StepEntry]
    findings: list[FindingEntry]
    stopped_by: list[str]
    """Rules of causes that only a person can remove; it stopped at them."""


class RecoverDocument(TypedDict):
    """``inv recover``."""

    hosts: dict[str, RecoverHost | HostFailure]


class CallerLoadEntry(TypedDict):
    """How the calling side fared: slow callers make a good agent look slow."""

    process_count: int
    crash_count: int
    """Calls that were placed once more, because their caller process crashed in LiveKit's native client."""
    cpu_share: float
    machine_cpu: float
    lag_p95_s: float
    starved: bool
    detail: str


class CallTimes(TypedDict, total=False):
    """One value for each measure that any call reached."""

    connect_s: float
    agent_s: float
    ready_s: float
    audio_s: float
    answer_s: float
    max_gap_s: float
    max_pause_s: float
    jitter_s: float
    round_trip_s: float


class CallDocument(TypedDict):
    """``inv call``: ``ok`` when enough calls were answered (--expect-success)."""

    answered_count: int
    failed_count: int
    success: float
    """Share of answered calls, 0 to 1."""
    expect_success: float
    duration_s: float
    calls: list[CallEntry]
    min_quality: NotRequired[float]
    """The smallest quality of all calls that were held; 1 is bad, 4.4 is best."""
    max_loss: NotRequired[float]
    """The largest share of lost packets of all calls that were held."""
    failure_counts: dict[str, int]
    """Kind of failure to the number of calls that failed of it."""
    callers: CallerLoadEntry
    p50: CallTimes
    p90: CallTimes
    p95: CallTimes
    p99: CallTimes
    max: CallTimes
    interrupted: bool
    rooms_kept: list[str]
    """Rooms of ours that were not deleted: somebody else was in them, or nobody answered."""


CapacityLimit = Literal[
    "", "callers", "memory", "max_concurrent_jobs", "load_limit", "cpu", "sockets", "unknown"
]


class CapacityStep(TypedDict):
    """One number of calls at once."""

    call_count: int
    carried: bool
    """Most tries were."""
    try_count: int
    carried_count: int
    """Tries that were carried."""
    problem: str
    """Why it was too much; empty where it was carried."""
    answered_count: int
    answer_p95_s: float | None
    """From dialling to hearing the agent."""
    max_gap_s: float | None
    max_loss: float | None
    """Share of lost packets of the worst call."""
    cpu_share: float
    """Of the host, 0 to 1, at most."""
    memory_left_share: float
    """Share of the host's memory, at least."""
    load: float
    """What the agent reported to LiveKit, at most."""
    callers_cpu_share: float
    """Of the machine that the callers ran on."""
    callers_starved: bool
    """The calling side slowed down what it measured."""


class CapacityDocument(TypedDict):
    """``inv capacity``: ``ok`` when at least one call was carried."""

    call_count: int
    """The largest number at once that was carried."""
    limited_by: CapacityLimit
    """What gave in first; empty where nothing did."""
    detail: str
    settings: dict[str, float]
    """Of the agent, for just so many calls."""
    stopped: str
    """Why it ended before the number was known; empty where it is."""
    duration_s: float
    steps: list[CapacityStep]
