"""The history in plain words: a summary of each host, then the lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from voiceops.calls.stats import percentile
from voiceops.cli.output import STATES, show, show_table
from voiceops.history.select import HistoryPart
from voiceops.model.history import CallRecord, DeployRecord, IncidentRecord, RepairRecord
from voiceops.util.terminal import ERROR, FAINT, OK, WARNING
from voiceops.util.words import counted

SHOWN = 10
"""So many of each list where none was asked for; a list that was asked for is shown whole."""
_STYLES = {
    **STATES,
    "answered": OK,
    "unanswered": ERROR,
    "dropped": ERROR,
    "abandoned": FAINT,
    "goes on": WARNING,
    "ok": OK,
}
_HEADINGS = {
    "calls": ("started", "kind", "outcome", "heard after", "lasted", "caller", "detail"),
    "incidents": ("began", "lasted", "cause", "service", "what"),
    "repairs": ("at", "repair", "result", "took", "why"),
    "deploys": ("at", "action", "result", "changed", "release", "by", "detail"),
}


def history_text(parts: Mapping[str, HistoryPart], asked: Sequence[str], since: float) -> str:
    """Print summaries and tables; return what follows them."""
    several = len(parts) > 1
    if not asked:
        for name, part in parts.items():
            show(f"{f'{name}: ' if several else ''}{summary(part, since)}")
    for kind in asked or _HEADINGS:
        records = sorted((at, name, row) for name, part in parts.items() for at, row in _rows(kind, part))
        headings = _HEADINGS[kind]
        shown = records if asked else records[-SHOWN:]
        if not records:
            if asked:
                show(f"no {kind} since {_at(since)}")
            continue
        if not asked:
            show("")
            show(
                f"{kind}, the last {len(shown)} of {len(records)}:"
                if len(shown) < len(records)
                else f"{kind}:"
            )
        show_table(
            [(row[0], name if several else "", *row[1:]) for _, name, row in shown],
            headings=(headings[0], "host", *headings[1:]),
            styles=_STYLES,
        )
    return ""


def summary(part: HistoryPart, since: float) -> str:
    """One sentence on one host."""
    words = [counted(len(part.calls), "call")]
    if part.success is not None:
        words.append(f"{part.success:.1%} answered")
    times = part.answer_times_s
    if times:
        words.append(f"heard after p50 {percentile(times, 50):.2f} s, p95 {percentile(times, 95):.2f} s")
    open_count = len(part.open_incidents)
    words.append(counted(len(part.incidents), "incident") + (f" ({open_count} open)" if open_count else ""))
    words += [counted(len(part.repairs), "repair"), counted(len(part.deploys), "deploy")]
    if part.most.room_count is not None:
        stuck = f", {part.most.stuck_count} of them stuck" if part.most.stuck_count else ""
        words.append(f"at most {counted(part.most.room_count, 'room')}{stuck}")
    return f"since {_at(since)}: {', '.join(words)}"


def _call_row(call: CallRecord) -> tuple[str, ...]:
    return (
        _at(call.started_at),
        call.kind,
        call.outcome or "goes on",
        "" if call.answer_s is None else f"{call.answer_s:.2f} s",
        "" if call.ended_at is None else _lasted(call.ended_at - call.started_at),
        call.caller or "",
        call.detail,
    )


def _incident_row(incident: IncidentRecord) -> tuple[str, ...]:
    ended = incident.ended_at
    lasted = "goes on" if ended is None else _lasted(ended - incident.began_at)
    return (_at(incident.began_at), lasted, incident.cause, incident.subject, incident.sentence)


def _repair_row(repair: RepairRecord) -> tuple[str, ...]:
    result = "ok" if repair.ok else "failed"
    what = " ".join(filter(None, (repair.action, repair.subject)))
    return (_at(repair.at), what, result, _lasted(repair.took_s), repair.error or repair.reason)


def _deploy_row(deploy: DeployRecord) -> tuple[str, ...]:
    result = "ok" if deploy.ok else "failed"
    changed = f"{deploy.changed_count} changed"
    return (_at(deploy.at), deploy.action, result, changed, deploy.release, deploy.by, deploy.detail)


def _rows(kind: str, part: HistoryPart) -> list[tuple[float, tuple[str, ...]]]:
    """The rows of one list, each with its time."""
    if kind == "calls":
        return [(one.started_at, _call_row(one)) for one in part.calls]
    if kind == "incidents":
        return [(one.began_at, _incident_row(one)) for one in part.incidents]
    if kind == "repairs":
        return [(one.at, _repair_row(one)) for one in part.repairs]
    return [(one.at, _deploy_row(one)) for one in part.deploys]


def _at(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _lasted(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86400:.0f} d"
