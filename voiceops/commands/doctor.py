"""Find the cause why callers hear nothing, and end it with the least force that helps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voiceops.cli.command import CommandRun, Report
from voiceops.commands.findings_view import finding_lines
from voiceops.commands.hosts import failed, values_of, with_problems
from voiceops.deadline import Deadline
from voiceops.deploy.desired import host_outline
from voiceops.doctor.fix import FixResult, carry_out, steps
from voiceops.doctor.observed_stack import without_livekit
from voiceops.doctor.recover import Recovery, StepResult
from voiceops.doctor.recover import recover as recover_by_steps
from voiceops.errors import NotFoundError, UsageError
from voiceops.fleet.order import start_order
from voiceops.fleet.run import run_on
from voiceops.model import timeouts
from voiceops.model.endpoint import reachable
from voiceops.model.findings import Finding
from voiceops.model.settings import Host
from voiceops.stack.logs.files import parse_since
from voiceops.wiring.doctor import recovery_actions

if TYPE_CHECKING:
    from voiceops.model.documents.doctor import RecoverDocument, WhyDocument, WhyHost

_BESIDE_CALLS = ("service-down", "disk-full", "refused-password")
"""Rules about services that calls may do without."""


def diagnose(run: CommandRun, room: str, *, fix: bool, since: str = "") -> Report:
    """Findings of all selected hosts; with ``fix`` carry out what they propose and diagnose again.

    ``NotFoundError`` where nobody has the room and nothing else is wrong.
    """
    began = _moment(since)

    def work(host: Host) -> _HostDiagnosis:
        return _diagnose_host(run, host, room, fix=fix, since=began)

    # Hosts may share a LiveKit: each fixes what the one before it has left.
    done = run_on(start_order(run.project.hosts, one_by_one=True) if fix else [run.project.hosts], work)
    seen = values_of(run, done)
    ok = all(one.ok for one in seen.values())
    if (
        ok
        and len(seen) == len(run.project.hosts)
        and all(one.room_is_missing and not one.findings for one in seen.values())
    ):
        error = NotFoundError(_no_room(room), hint="`inv rooms.list` shows the rooms that stand")
        return failed(run, _document(seen), error)
    text = "\n".join(_text(one, name if len(run.project.hosts) > 1 else "") for name, one in seen.items())
    return with_problems(run, done, Report(_document(seen), text, exit_code=0 if ok else 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _HostDiagnosis:
    """The findings of one host, and what was done about them."""

    findings: Sequence[Finding]
    results: Sequence[FixResult]
    problems: Sequence[str]
    room_is_missing: bool
    incomplete: bool
    """Something could not be observed."""
    uses_livekit: bool = True

    @property
    def ok(self) -> bool:
        failed = any(result.fix.action and not result.done for result in self.results)
        return (
            not self.incomplete
            and not failed
            and not any(finding.severity == "error" for finding in self.findings)
        )

    def as_json(self) -> WhyHost:
        return {
            "ok": self.ok,
            "fixes": [result.as_json() for result in self.results],
            "problems": list(self.problems),
        }


def _document(seen: Mapping[str, _HostDiagnosis]) -> WhyDocument:
    return {
        "findings": [one.as_json(host) for host, found in seen.items() for one in found.findings],
        "hosts": {host: one.as_json() for host, one in seen.items()},
    }


def _moment(since: str) -> float | None:
    if not since:
        return None
    now = time.time()
    try:
        began = parse_since(since, now)
    except ValueError as error:
        raise UsageError(f"--since: {error}", hint="for example --since 10m") from None
    if began >= now:
        raise UsageError(
            f"--since: {since} is in the future", hint="write how long ago: 10m, 2h, or an ISO time"
        )
    return began


def _no_room(room: str) -> str:
    return f"there is no room {room!r}"


def _diagnose_host(
    run: CommandRun, host: Host, room: str, *, fix: bool, since: float | None
) -> _HostDiagnosis:
    with recovery_actions(run.project, host, say=run.say, drop_calls=run.yes) as actions:
        facts = actions.facts(room, since=since)
        findings = actions.findings(facts)
        results: tuple[FixResult, ...] = ()
        if fix and findings:
            results = carry_out(steps(findings), actions.stack, actions.rooms)
            facts = actions.facts(room, since=since)
            findings = actions.findings(facts)
    problems = [*facts.problems, *([_no_room(room)] if facts.room_is_missing else [])]
    return _HostDiagnosis(
        findings=findings,
        results=results,
        problems=problems,
        room_is_missing=facts.room_is_missing,
        incomplete=facts.incomplete,
        uses_livekit=facts.server.used,
    )


def _text(seen: _HostDiagnosis, host: str) -> str:
    lines: list[str] = [f"{host}:"] if host else []
    for result in seen.results:
        lines.append(f"{'done' if result.done else 'not done'}: {result.fix.command}")
        lines += [f"  {result.error}"] if result.error else []
    for problem in seen.problems:
        lines.append(f"not seen: {problem}")
    for finding in seen.findings:
        lines += finding_lines(finding)
    if not seen.findings and seen.incomplete:
        lines.append("No fault found in what was seen, and that was not all: ask again.")
    elif not seen.findings and not seen.uses_livekit:
        lines.append("No fault found: every service that is to run does its job.")
    elif not seen.findings:
        lines.append(
            "No fault found: the server answers, the agents are registered, nobody waits in silence."
        )
    return "\n".join(lines)


def recover(run: CommandRun, *, hard: bool) -> Report:
    """Recover host after host, and say of each which step helped."""
    several = len(run.project.hosts) > 1
    given = Deadline(run.timeout, "recover") if run.timeout else None

    def work(host: Host) -> Recovery:
        limit = given or Deadline(timeouts.RECOVER_S, "recover")
        return _recover_host(run, host, limit, hard=hard, name=host.name if several else "")

    done = run_on(start_order(run.project.hosts, one_by_one=True), work)
    found = values_of(run, done)
    code = 0 if all(one.ok for one in found.values()) else 1
    text = "\n".join(f"{name}: {_outcome(one)}" if several else _outcome(one) for name, one in found.items())
    document: RecoverDocument = {"hosts": {name: one.as_json() for name, one in found.items()}}
    return with_problems(run, done, Report(document, text, code))


def _recover_host(run: CommandRun, host: Host, limit: Deadline, *, hard: bool, name: str) -> Recovery:
    def say(line: str) -> None:
        run.say(f"{name}: {line}" if name else line)

    def tell(step: StepResult) -> None:
        call = "" if step.proof is None else f" - call: {step.proof.detail}"
        error = f" - failed: {step.error}" if step.error else ""
        say(f"{step.level}: {step.did or 'nothing done'} ({step.took_s:.1f} s){call}{error}")

    agents = any(one.is_agent for one in host_outline(host.settings))
    if not agents and (not reachable(host) or without_livekit(host.settings, local=host.local)):
        hint = "recover proves its steps by a call; `inv why --fix` repairs services"
        raise UsageError(f"{host.name} runs no agent to call", hint=hint)
    with recovery_actions(run.project, host, say=say, drop_calls=run.yes, limit=limit) as actions:
        return recover_by_steps(
            actions, live_rooms=actions.live_rooms, hard=hard, yes=run.yes, tell=tell, limit=limit
        )


def _outcome(outcome: Recovery) -> str:
    if outcome.stopped_by:
        # A service that calls may do without, such as the page: no call was tried.
        beside = all(one.rule in _BESIDE_CALLS for one in outcome.stopped_by)
        cause = "no restart removes the cause."
        lines = [
            f"A service can't do its job, and {cause}" if beside else f"Calls are not answered, and {cause}"
        ]
        return "\n".join(lines + [line for one in outcome.stopped_by for line in finding_lines(one)])
    if outcome.helped is None:
        return "Calls are still not answered after every step; `inv why` shows what is left to do."
    if outcome.changed:
        line = f"A call is answered again, {outcome.took_s:.1f} s after the command; what helped: {outcome.helped}."
    else:
        line = "Nothing to do: a call was answered."
    # What only a person can do was not done by any step, as where logs can't be written.
    left = [one for one in outcome.findings if not one.past and not any(fix.action for fix in one.fixes)]
    return "\n".join([line, *(text for one in left for text in finding_lines(one))])
