"""Bring calls back with the least force that helps, each step proved by a real call.

The steps are diagnose, fix what the diagnosis names, clean the rooms, restart the
agents, restart the stack. It ends at the first step after which a call is answered, and at
a cause that no restart removes: code that can't be loaded or raises, a wrong name, another
project's port. ``hard`` restarts the stack at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from voiceops.deadline import Deadline
from voiceops.errors import CallsInProgressError, VoiceopsError
from voiceops.model import timeouts
from voiceops.model.findings import Finding
from voiceops.util.words import counted

if TYPE_CHECKING:
    from voiceops.model.documents.doctor import RecoverHost, StepEntry


class RecoveryLevel(str, Enum):
    """The steps, least force first."""

    DIAGNOSE = "diagnose"
    FIX = "fix"
    ROOMS = "rooms"
    AGENTS = "agents"
    STACK = "stack"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofCallResult:
    """A synthetic call after a step."""

    answered: bool
    detail: str
    audio_s: float | None = None


class RecoveryActions(Protocol):
    """What recover can do; each method may be called again at any time."""

    def diagnose(self) -> Sequence[Finding]: ...

    def fix(self, findings: Sequence[Finding]) -> str:
        """Carry out the findings' fixes; says what it did."""
        ...

    def clean_rooms(self) -> str: ...

    def restart(self, level: RecoveryLevel) -> str:
        """Restart the agents (overlapping where they have calls) or the whole stack."""
        ...

    def prove(self) -> ProofCallResult: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step did, and whether a call was answered after it."""

    level: RecoveryLevel
    did: str
    took_s: float
    proof: ProofCallResult | None = None
    error: str = ""

    def as_json(self) -> StepEntry:
        """Return the step as documents have it."""
        entry: StepEntry = {
            "step": str(self.level),
            "did": self.did,
            "took_s": round(self.took_s, 3),
            "detail": self.error,
        }
        if self.proof is not None:
            entry["answered"] = self.proof.answered
            entry["call"] = self.proof.detail
            if self.proof.audio_s is not None:
                entry["audio_s"] = self.proof.audio_s
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How it went: ``helped`` is the step after which calls were answered, None if none did."""

    steps: tuple[StepResult, ...]
    findings: tuple[Finding, ...]
    took_s: float
    helped: RecoveryLevel | None
    stopped_by: tuple[Finding, ...] = ()
    """Causes that only a person can remove; the steps after them were not taken."""

    @property
    def ok(self) -> bool:
        return self.helped is not None

    @property
    def changed(self) -> bool:
        return any(step.level is not RecoveryLevel.DIAGNOSE for step in self.steps)

    def as_json(self) -> RecoverHost:
        """Return how it went on one host as documents have it."""
        return {
            "ok": self.ok,
            "helped": str(self.helped) if self.helped else None,
            "changed": self.changed,
            "took_s": round(self.took_s, 3),
            "steps": [step.as_json() for step in self.steps],
            "findings": [finding.as_json() for finding in self.findings],
            "stopped_by": [finding.rule for finding in self.stopped_by],
        }


@dataclass(slots=True)
class _RecoveryRun:
    actions: RecoveryActions
    live_rooms: Callable[[], Sequence[str]]
    yes: bool
    tell: Callable[[StepResult], None]
    limit: Deadline
    steps: list[StepResult] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()
    stopped_by: tuple[Finding, ...] = ()

    def diagnose(self) -> str:
        self.findings = tuple(self.actions.diagnose())
        errors = [finding.rule for finding in self.findings if finding.severity == "error"]
        return f"found {', '.join(errors)}" if errors else "found nothing wrong"

    def by_hand(self, *, called: bool) -> tuple[Finding, ...]:
        """Causes that no step removes. What earlier calls met counts only once one of ours has met it too."""
        return tuple(
            one
            for one in self.findings
            if one.severity == "error" and one.by_hand and (called or not one.past)
        )

    def stops(self, *, called: bool) -> bool:
        """Diagnose again; whether what is left is a person's work."""
        try:
            self.diagnose()
        except VoiceopsError:
            return False  # a later step may bring back what can't be observed
        self.stopped_by = self.by_hand(called=called)
        return bool(self.stopped_by)

    def may_be_corrected(self) -> bool:
        """Whether a start tells if what a person had to correct has been corrected since."""
        return any(fix.action for finding in self.stopped_by for fix in finding.fixes)

    def restart_at_once(self) -> RecoveryLevel | None:
        """Restart everything at once."""
        return RecoveryLevel.STACK if self.step(RecoveryLevel.STACK, self.restart_stack) else None

    def escalate(self) -> RecoveryLevel | None:
        """Take the steps, least force first; returns the one after which a call was answered."""
        broken = any(one.severity == "error" and not one.past for one in self.findings)
        if not broken:
            if self.step(RecoveryLevel.DIAGNOSE, lambda: "called to make sure"):
                return RecoveryLevel.DIAGNOSE
            if self.stops(called=True):
                if not self.may_be_corrected():
                    return None
                self.stopped_by = ()
        if any(fix.action for finding in self.findings for fix in finding.fixes):
            # Code may have been corrected since it failed: one start tells, before 15 s go into a call.
            doubtful = bool(self.by_hand(called=not broken))
            if self.step(RecoveryLevel.FIX, lambda: self.actions.fix(self.findings), prove=not doubtful):
                return RecoveryLevel.FIX
            if self.stops(called=not doubtful or not broken):
                return None
            if doubtful and self.step(RecoveryLevel.FIX, lambda: "called to make sure"):
                return RecoveryLevel.FIX
        elif self.by_hand(called=False):
            self.stopped_by = self.by_hand(called=False)
            return None
        for level, act in (
            (RecoveryLevel.ROOMS, self.actions.clean_rooms),
            (RecoveryLevel.AGENTS, lambda: self.actions.restart(RecoveryLevel.AGENTS)),
            (RecoveryLevel.STACK, self.restart_stack),
        ):
            if self.step(level, act):
                return level
            if self.stops(called=True):
                return None
        return None

    def step(self, level: RecoveryLevel, act: Callable[[], str], *, prove: bool = True) -> bool:
        """Do one step and prove it; an error in it is kept, and the next step follows while there is time."""
        self.limit.check(f"the step {level} was not begun")
        began = self.limit.clock()
        did, error, proof = "", "", None
        try:
            did = act()
            proof = self.actions.prove() if prove else None
        except CallsInProgressError:
            raise
        except VoiceopsError as failure:
            error = failure.message
        result = StepResult(level=level, did=did, took_s=self.limit.clock() - began, proof=proof, error=error)
        self.steps.append(result)
        self.tell(result)
        return proof is not None and proof.answered

    def restart_stack(self) -> str:
        rooms = () if self.yes else self.live_rooms()
        if rooms:
            raise CallsInProgressError(
                f"restarting the stack would drop {counted(len(rooms), 'live call')}",
                hint="run `inv recover --yes` to drop them, or wait until they have ended",
                data={"rooms": list(rooms)},
            )
        return self.actions.restart(RecoveryLevel.STACK)


def recover(
    actions: RecoveryActions,
    *,
    live_rooms: Callable[[], Sequence[str]],
    hard: bool = False,
    yes: bool = False,
    tell: Callable[[StepResult], None] = lambda _step: None,
    limit: Deadline | None = None,
) -> Recovery:
    """Take step after step until a call is answered. Safe to run at any time, also when nothing is wrong.

    Raises ``CallsInProgressError`` before a restart of the stack would drop calls that an
    agent serves (``live_rooms`` names them, or raises ``CallsUnknownError``), unless ``yes``, and
    ``DeadlineError`` once ``limit`` is over and no call was answered; what ``actions`` do is bounded by
    whoever made them.
    """
    limit = limit or Deadline(timeouts.RECOVER_S, "recover")
    began = limit.clock()
    run = _RecoveryRun(actions=actions, live_rooms=live_rooms, yes=yes, tell=tell, limit=limit)
    run.step(RecoveryLevel.DIAGNOSE, run.diagnose, prove=False)
    helped = run.restart_at_once() if hard else run.escalate()
    return Recovery(
        steps=tuple(run.steps),
        findings=run.findings,
        took_s=limit.clock() - began,
        helped=helped,
        stopped_by=run.stopped_by,
    )
