"""What the documents of several commands have in common."""

from __future__ import annotations

from typing import Literal, TypedDict

from typing_extensions import NotRequired

from voiceops.errors import ErrorEntry
from voiceops.model.states import ServiceState


class FailureDocument(TypedDict):
    """A command that failed before it had a result."""

    error: ErrorEntry


class HostFailure(TypedDict):
    """A host on which the command failed, or that it left as it was."""

    ok: Literal[False]
    error: ErrorEntry
    skipped: NotRequired[str]
    """Why the turn of this host never came."""


class ServiceEntry(TypedDict):
    """What a command did to one service."""

    state: ServiceState
    changed: bool
    action: str
    """start, stop, restart, overlap, wait, keep and the like: what the plan asked for."""
    pids: list[int]
    draining: list[int]
    """Process ids of older instances that finish their calls."""
    ready_s: float | None
    """Seconds until it was ready; null where it was not waited for."""
    detail: str
    warning: NotRequired[str]
    """Why it may not do its job, although it is ready."""
    error: NotRequired[ErrorEntry]


class ResourceEntry(TypedDict):
    """What happened, or in check mode would happen, to one resource of a host."""

    id: str
    result: str
    """ok, changed, failed, skipped (after a failure) or unknown (check mode can't tell)."""
    changes: NotRequired[list[str]]
    note: NotRequired[str]
    detail: NotRequired[str]
    """Of a failure: what went wrong."""
    log: NotRequired[list[str]]
    diff: NotRequired[str]
    took_s: NotRequired[float]


class FileEntry(TypedDict):
    """One file that a command wrote or found as it should be."""

    changed: bool


class FindingEntry(TypedDict):
    """One cause, the evidence for it, and what fixes it."""

    rule: str
    severity: str
    """error: callers hear silence; warning: they may soon; info: what may be meant to be so."""
    cause: str
    evidence: list[str]
    fix: str
    """Commands as one line to paste, then what only a person can do; empty if nothing is to be done."""
    room: NotRequired[str]
    host: NotRequired[str]


class CallFailureEntry(TypedDict):
    """Why a call is not a good one, and what was seen until then."""

    kind: str
    """credentials, no-connect, no-agent, silent, no-answer, dropped, poor-quality or caller."""
    detail: str
    seen: NotRequired[list[str]]


class DiagnosisEntry(TypedDict):
    """What the rules of ``why`` found while the caller of a failed call was still waiting."""

    ok: bool
    findings: list[FindingEntry]
    problems: list[str]
    """What could not be observed."""


class AgentChangeEntry(TypedDict):
    """An agent that came or left after the first one was heard."""

    at_s: float
    change: str
    """joined or left."""
    agent: str


class CallEntry(TypedDict):
    """One synthetic call. Times are seconds since the moment before dialling; what was not reached is missing."""

    ok: bool
    id: int
    room: str
    identity: str
    hangup: NotRequired[str]
    started_s: NotRequired[float]
    connect_s: NotRequired[float]
    agent_s: NotRequired[float]
    ready_s: NotRequired[float]
    audio_s: NotRequired[float]
    answer_s: NotRequired[float]
    """From the end of the caller's words to the agent's first sound after them."""
    quality: NotRequired[float]
    """With --hold: of the worst 5 s, as a mean opinion score from 1 to 4.4."""
    max_gap_s: NotRequired[float]
    """The longest stretch for which no audio of the agent arrived."""
    max_gap_at_s: NotRequired[float]
    max_pause_s: NotRequired[float]
    """The longest silence between two sounds of the agent."""
    max_pause_at_s: NotRequired[float]
    loss: NotRequired[float]
    """Share of the agent's packets that never arrived, 0 to 1."""
    jitter_s: NotRequired[float]
    round_trip_s: NotRequired[float]
    agent_changes: NotRequired[list[AgentChangeEntry]]
    ended_s: NotRequired[float]
    agent: NotRequired[str]
    """Identity of the agent that came."""
    rms: NotRequired[int]
    peak: NotRequired[int]
    failure: NotRequired[CallFailureEntry]
    verdict: NotRequired[DiagnosisEntry]
