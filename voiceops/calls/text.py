"""A run of calls in plain words: for terminals, logs and pipes."""

from __future__ import annotations

from voiceops.calls.stats import IN_MILLISECONDS, MEASURES, PERCENTILES, CallReport
from voiceops.model.calls import CallPlan, CallResult, FailureKind
from voiceops.util.words import counted

_SHOWN_FAILURES = 10


def summary(report: CallReport) -> str:
    """One sentence for one call; a table for more."""
    lines: list[str] = []
    if len(report.results) == 1:
        lines.append(one_call(report.results[0]))
    else:
        lines += _table(report)
        lines.append("")
        lines += _held(report)
        lines.append(_verdict(report))
    lines += _failures(report)
    if report.interrupted:
        of = "" if report.plan.duration_s else f" of {report.plan.count}"
        lines.append(
            f"interrupted after {len(report.results)}{of} {'call' if report.plan.count == 1 and of else 'calls'}"
        )
    if report.load.starved and len(report.results) > 1:
        lines.append(f"note: {report.load.detail}")
    if report.load.crash_count:
        crashed = counted(report.load.crash_count, "call")
        lines.append(
            f"note: {crashed} placed once more: the caller process crashed in LiveKit's native client"
        )
    if report.rooms_kept:
        kept = counted(len(report.rooms_kept), "room")
        lines.append(f"note: {kept} of these calls not deleted; `inv cleanup-rooms` does it")
    return "\n".join(lines)


def one_call(result: CallResult) -> str:
    """How one call went, in one line."""
    steps = [
        f"{label} {value:.2f} s" if name not in IN_MILLISECONDS else f"{label} {value * 1000:.0f} ms"
        for name, label in MEASURES.items()
        if (value := getattr(result, name)) is not None
    ]
    if result.quality is not None:
        steps.append(f"quality {result.quality:.1f}, {result.loss or 0.0:.1%} of packets lost")
    steps += [f"agent {one.change} at {one.at_s:.2f} s" for one in result.agent_changes]
    times = ", ".join(steps)
    if result.failure is None:
        return f"ok: {times}"
    return f"failed ({result.failure.kind}): {result.failure.detail}" + (f"; {times}" if times else "")


def describe(plan: CallPlan, lines: int) -> str:
    """What is about to happen."""
    many = f"calls for {plan.duration_s:g} s" if plan.duration_s else counted(plan.count, "call")
    pace = f", {plan.rate_per_s:g} per second" if plan.rate_per_s else ""
    ends = ",".join(str(hangup) for hangup in plan.hangups)
    return f"{many}, {lines} at once{pace}, hang up: {ends}{', redial' if plan.redial else ''}"


def _table(report: CallReport) -> list[str]:
    columns = [f"p{percent}" for percent in PERCENTILES] + ["max"]
    found = [report.percentiles(percent) for percent in (*PERCENTILES, 100)]
    width = max(len(label) for label in MEASURES.values())
    lines = ["seconds".ljust(width) + "".join(column.rjust(9) for column in columns) + "calls".rjust(9)]
    for name, label in MEASURES.items():
        if name in found[0]:
            cells = "".join(f"{row[name]:9.3f}" for row in found)
            lines.append(label.ljust(width) + cells + str(len(report.values(name))).rjust(9))
    return lines


def _held(report: CallReport) -> list[str]:
    """The worst of the calls that were held, with the time at which it was heard."""
    held = [result for result in report.results if result.quality is not None]
    if not held:
        return []
    worst = min(held, key=lambda result: result.quality or 0.0)
    gap = max(held, key=lambda result: result.max_gap_s or 0.0)
    return [
        f"{counted(len(held), 'call')} held: lowest quality {worst.quality:.1f} (call {worst.id}), "
        f"most packets lost {max(report.values('loss')):.1%}, largest gap {(gap.max_gap_s or 0.0) * 1000:.0f} ms "
        f"(call {gap.id}, {gap.max_gap_at_s or 0.0:.1f} s after it began)"
    ]


def _verdict(report: CallReport) -> str:
    share = f"{report.ok} of {len(report.results)} calls answered ({report.success:.1%}) in {report.duration_s:.1f} s"
    return (
        share if report.good_enough else f"{share}: fewer than the {report.plan.expect_success:.1%} expected"
    )


def _failures(report: CallReport) -> list[str]:
    failed = [result for result in report.results if result.failure is not None]
    lines = []
    for result in failed[:_SHOWN_FAILURES]:
        if len(report.results) > 1:
            lines.append(f"call {result.id}: {one_call(result)}")
        for seen in result.failure.seen if result.failure else ():
            lines.append(f"  - {seen}")
        lines += _why(result)
    if len(failed) > _SHOWN_FAILURES:
        lines.append(f"and {len(failed) - _SHOWN_FAILURES} more failed calls; --json has them all")
    return lines


def _why(result: CallResult) -> list[str]:
    kind = result.failure.kind if result.failure else None
    if result.verdict is None:
        door = kind in (FailureKind.CREDENTIALS, FailureKind.NO_CONNECT)
        return ["  next: `inv why` looks for the cause"] if door else []
    findings = result.verdict.get("findings", ())
    if not findings and kind is FailureKind.NO_CONNECT:
        return [
            "  next: the server answers, so look at what lies between: its media ports (rtc_udp_port, rtc_tcp_port) "
            "must be open for callers"
        ]
    if not findings:
        return ["  why: no rule knows this failure; `inv logs` has what the agent said meanwhile"]
    lines = []
    for finding in findings:
        lines.append(f"  why: {finding['rule']}: {finding['cause']}")
        lines += [f"       {evidence}" for evidence in finding.get("evidence", ())]
        lines.append(f"  fix: {finding['fix']}")
    return lines
