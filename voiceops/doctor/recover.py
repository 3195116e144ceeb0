"""Bring calls back with the least force that helps, each step proved by a real call.

The ladder is diagnose, fix what the diagnosis names, clean the rooms, restart the
agents, restart the stack. It ends at the first rung after which a call is answered.
``hard`` climbs straight to the top.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from voiceops.deadline import Deadline
from voiceops.errors import CallsInProgressError, VoiceopsError
from voiceops.model.findings import Finding

if TYPE_CHECKING:
    from voiceops.model.documents.doctor import RecoverHost, StepEntry

DEFAULT_TIMEOUT_S = 600.0


class Rung(str, Enum):
    """One step of the ladder, least force first."""

    DIAGNOSE = "diagnose"
    FIX = "fix"
    ROOMS = "rooms"
    AGENTS = "agents"
    STACK = "stack"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A synthetic call after a step."""

    answered: bool
    detail: str
    audio_s: float | None = None


class Hands(Protocol):
    """What recover can do; each method may be called again at any time."""

    def diagnose(self) -> Sequence[Finding]: ...

    def fix(self, findings: Sequence[Finding]) -> str:
        """Carry out the findings' fixes; says what it did."""
        ...

    def clean_rooms(self) -> str: ...

    def restart(self, rung: Rung) -> str:
        """Restart the agents (overlapping where they have calls) or the whole stack."""
        ...

    def prove(self) -> Proof: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step did, and whether a call was answered after it."""

    rung: Rung
    did: str
    took_s: float
    proof: Proof | None = None
    error: str = ""

    def as_json(self) -> StepEntry:
        """Return the step as documents have it."""
        entry: StepEntry = {
            "step": str(self.rung),
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
    helped: Rung | None

    @property
    def ok(self) -> bool:
        return self.helped is not None

    @property
    def changed(self) -> bool:
        return any(step.rung is not Rung.DIAGNOSE for step in self.steps)

    def as_json(self) -> RecoverHost:
        """Return how it went on one host as documents have it."""
        return {
            "ok": self.ok,
            "helped": str(self.helped) if self.helped else None,
            "changed": self.changed,
            "took_s": round(self.took_s, 3),
            "steps": [step.as_json() for step in self.steps],
            "findings": [finding.as_json() for finding in self.findings],
        }


@dataclass(slots=True)
class _Climb:
    hands: Hands
    live_rooms: Callable[[], Sequence[str]]
    yes: bool
    tell: Callable[[StepResult], None]
    limit: Deadline
    steps: list[StepResult] = field(default_factory=list)

    def step(self, rung: Rung, act: Callable[[], str], *, prove: bool = True) -> bool:
        """Do one step and prove it; an error in the step is kept and the climb goes on while there is time."""
        self.limit.check(f"the step {rung} was not begun")
        began = self.limit.clock()
        did, error, proof = "", "", None
        try:
            did = act()
            proof = self.hands.prove() if prove else None
        except CallsInProgressError:
            raise
        except VoiceopsError as failure:
            error = failure.message
        result = StepResult(rung=rung, did=did, took_s=self.limit.clock() - began, proof=proof, error=error)
        self.steps.append(result)
        self.tell(result)
        return proof is not None and proof.answered

    def restart_stack(self) -> str:
        rooms = () if self.yes else self.live_rooms()
        if rooms:
            raise CallsInProgressError(
                f"restarting the stack would drop {len(rooms)} live call(s)",
                hint="run `inv recover --yes` to drop them, or wait until they have ended",
                data={"rooms": list(rooms)},
            )
        return self.hands.restart(Rung.STACK)


def recover(
    hands: Hands,
    *,
    live_rooms: Callable[[], Sequence[str]],
    hard: bool = False,
    yes: bool = False,
    tell: Callable[[StepResult], None] = lambda _step: None,
    limit: Deadline | None = None,
) -> Recovery:
    """Climb until a call is answered. Safe to run at any time, also when nothing is wrong.

    Raises ``CallsInProgressError`` before a restart of the stack would drop calls that an
    agent serves (``live_rooms`` names them, or raises ``CallsUnknownError``), unless ``yes``, and
    ``DeadlineError`` once ``limit`` is over and no call was answered; what ``hands`` do is bounded by
    whoever made them.
    """
    limit = limit or Deadline(DEFAULT_TIMEOUT_S, "recover")
    began = limit.clock()
    climb = _Climb(hands=hands, live_rooms=live_rooms, yes=yes, tell=tell, limit=limit)
    findings: tuple[Finding, ...] = ()

    def diagnose() -> str:
        nonlocal findings
        findings = tuple(hands.diagnose())
        errors = [finding.rule for finding in findings if finding.severity == "error"]
        return f"found {', '.join(errors)}" if errors else "found nothing wrong"

    def is_broken() -> bool:
        return any(finding.severity == "error" for finding in findings)

    helped: Rung | None = None
    climb.step(Rung.DIAGNOSE, diagnose, prove=False)
    if hard:
        helped = Rung.STACK if climb.step(Rung.STACK, climb.restart_stack) else None
    elif not is_broken() and climb.step(Rung.DIAGNOSE, lambda: "called to make sure"):
        helped = Rung.DIAGNOSE
    else:
        rungs: list[tuple[Rung, Callable[[], str]]] = []
        if any(finding.fixes for finding in findings):
            rungs.append((Rung.FIX, lambda: hands.fix(findings)))
        rungs += [
            (Rung.ROOMS, hands.clean_rooms),
            (Rung.AGENTS, lambda: hands.restart(Rung.AGENTS)),
            (Rung.STACK, climb.restart_stack),
        ]
        helped = next((rung for rung, act in rungs if climb.step(rung, act)), None)
    return Recovery(steps=tuple(climb.steps), findings=findings, took_s=limit.clock() - began, helped=helped)
