"""why and recover: the one sentence that explains the silence, and the least force that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voiceops.tasks.command import TARGETS, Report, Run, command

if TYPE_CHECKING:
    from voiceops.doctor.mend import MendResult
    from voiceops.doctor.recover import StepResult
    from voiceops.model.findings import Finding


@command(
    *TARGETS,
    aliases=("doctor",),
    help={"room": "Only this room.", "mend": "Carry out what the findings propose, then look again."},
)
def why(run: Run, room: str = "", mend: bool = False) -> Report:
    """Why does a caller hear nothing? The most likely cause first, each with what mends it.

    Exit 1 when callers hear silence now. Example: inv why --room front-desk --mend
    """
    from voiceops.doctor.diagnose import diagnose
    from voiceops.doctor.mend import carry_out, steps
    from voiceops.wiring_doctor import local_hands

    hands = local_hands(run.project, say=run.say)
    facts = hands.facts(room)
    findings = diagnose(facts)
    results: tuple[MendResult, ...] = ()
    if mend and findings:
        results = carry_out(steps(findings), hands.stack, hands.rooms)
        facts = hands.facts(room)
        findings = diagnose(facts)
    ok = not any(finding.severity == "error" for finding in findings)
    data: dict[str, Any] = {
        "ok": ok,
        "findings": [finding.as_json() for finding in findings],
        "mended": [result.as_json() for result in results],
        "problems": list(facts.problems),
    }
    return Report(data, _text(findings, results, facts.problems), exit_code=0 if ok else 1)


def _text(findings: Sequence[Finding], results: Sequence[MendResult], problems: Sequence[str]) -> str:
    from voiceops.model.quoting import printable

    lines: list[str] = []
    for result in results:
        lines.append(f"{'done' if result.done else 'not done'}: {result.mend.command}")
        lines += [f"  {result.error}"] if result.error else []
    for problem in problems:
        lines.append(f"not seen: {problem}")
    for finding in findings:
        where = f" (room {printable(finding.room)})" if finding.room else ""
        lines.append(f"{finding.severity}: {finding.sentence}{where}  [{finding.rule}]")
        lines += [f"  seen: {printable(line)}" for line in finding.evidence]
        lines += [f"  mend: {finding.mend}"] if finding.mend else []
    if not findings:
        lines.append(
            "No fault found: the server answers, the agents are registered, nobody waits in silence."
        )
    return "\n".join(lines)


@command(
    *TARGETS,
    "timeout",
    "yes",
    help={"hard": "Restart the whole stack at once, strays and all."},
)
def recover(run: Run, hard: bool = False) -> Report:
    """Bring calls back with the least force that helps; each step is proved by a real call.

    Diagnoses, mends, cleans rooms, restarts the agents, restarts the stack; stops at the first
    step after which a call is answered. Example: inv recover
    """
    from voiceops.doctor.recover import recover as climb
    from voiceops.wiring_doctor import local_hands

    hands = local_hands(run.project, say=run.say, drop_calls=run.yes, call_timeout_s=run.timeout or 15.0)

    def tell(step: StepResult) -> None:
        call = "" if step.proof is None else f" - call: {step.proof.detail}"
        error = f" - failed: {step.error}" if step.error else ""
        run.say(f"{step.rung}: {step.did or 'nothing done'} ({step.took_s:.1f} s){call}{error}")

    outcome = climb(hands, live_rooms=hands.live_rooms, hard=hard, yes=run.yes, tell=tell)
    if outcome.helped is None:
        text = "Calls are still not answered after every step; `inv why` shows what is left to do."
    elif not outcome.changed:
        text = "Nothing to do: a call was answered."
    else:
        text = f"A call is answered again, {outcome.took_s:.1f} s after the command; what helped: {outcome.helped}."
    return Report(outcome.as_json(), text, exit_code=0 if outcome.ok else 1)
