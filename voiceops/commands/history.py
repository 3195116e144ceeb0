"""Show the history of hosts, or write it as CSV or as a picture."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from voiceops.adapters.ssh.transports import transport_to
from voiceops.calls.pictures import check, check_file, save
from voiceops.calls.stats import percentile
from voiceops.cli.command import CommandRun, Report
from voiceops.cli.flags import HistoryFlags
from voiceops.commands.history_chart import draw_history
from voiceops.commands.history_files import write_csv
from voiceops.commands.history_view import history_text
from voiceops.commands.hosts import values_of, with_problems
from voiceops.deploy.host_history import read_host_deploys, read_host_history
from voiceops.deploy.ledger import from_elsewhere
from voiceops.errors import UsageError, VoiceopsError
from voiceops.fleet.run import HostResult, run_on
from voiceops.history.select import HistoryPart, merged
from voiceops.history.store import NO_ROOMS, HistoryStore
from voiceops.model.history import CallRecord, DeployRecord, IncidentRecord, RepairRecord
from voiceops.model.settings import Host
from voiceops.stack.logs.files import parse_since
from voiceops.util.times import iso_time
from voiceops.wiring.history import has_own_history, open_history

if TYPE_CHECKING:
    from voiceops.model.documents.history import (
        HistoryCall,
        HistoryDeploy,
        HistoryDocument,
        HistoryHost,
        HistoryIncident,
        HistoryRepair,
    )

LISTS = ("calls", "incidents", "repairs", "deploys")


def show_history(run: CommandRun, flags: HistoryFlags) -> Report:
    """Read the history of the selected hosts, by default all that this machine's history knows of."""
    asked = [name for name in LISTS if getattr(flags, name)]
    now = time.time()
    try:
        since = parse_since(flags.since, now)
    except ValueError as error:
        raise UsageError(f"--since: {error}", hint="for example --since 2d") from None
    check(flags.plot)
    if flags.csv:
        check_file("--csv", flags.csv)
        if len(asked) > 1:
            raise UsageError(f"--csv writes one list, not {' and '.join(asked)}", hint="run it once for each")
    selected = [host.name for host in run.project.hosts] if run.host or run.group or run.limit else []
    with contextlib.closing(open_history(run.project)) as store:
        parts = read_parts(store, since=since, hosts=selected)
    for name in selected or [run.project.hosts[0].name]:
        parts.setdefault(name, HistoryPart())
    elsewhere = _read_on_hosts(run, since, asked) if selected else {}
    for name, part in values_of(run, elsewhere).items():
        new = from_elsewhere(part.deploys, parts[name].deploys)
        parts[name] = merged([parts[name], replace(part, deploys=new)])
    if flags.csv:
        write_csv(flags.csv, asked[0] if asked else "calls", parts)
        run.say(f"csv: {flags.csv}")
    if flags.plot:
        save(draw_history(list(parts.values()), since=since, until=now), flags.plot)
        run.say(f"plot: {flags.plot}")
    document: HistoryDocument = {
        "since": iso_time(since),
        "hosts": {name: _host(part, asked) for name, part in parts.items()},
    }
    return with_problems(run, elsewhere, Report(document, lambda: history_text(parts, asked, since)))


def _read_on_hosts(run: CommandRun, since: float, asked: list[str]) -> dict[str, HostResult[HistoryPart]]:
    """What the monitors of servers have recorded there, and what their ledgers have of deploys from elsewhere."""
    deploys = "deploys" in asked

    def read(host: Host) -> HistoryPart:
        found = HistoryPart()
        with contextlib.closing(transport_to(host)) as transport:
            if deploys:
                try:
                    found = read_host_deploys(host, transport, since=since)
                except VoiceopsError as error:
                    run.say(f"{host.name}: only deploys of this machine are shown: {error.message}")
            if has_own_history(host) and asked != ["deploys"]:
                found = merged([found, read_host_history(host, transport, since=since)])
            return found

    hosts = [host for host in run.project.hosts if not host.local and (deploys or has_own_history(host))]
    return run_on([hosts], read)


def read_parts(store: HistoryStore, *, since: float, hosts: list[str]) -> dict[str, HistoryPart]:
    """The records of each host, by name."""
    calls = store.read(CallRecord, since=since, hosts=hosts)
    incidents = store.read(IncidentRecord, since=since, hosts=hosts)
    repairs = store.read(RepairRecord, since=since, hosts=hosts)
    deploys = store.read(DeployRecord, since=since, hosts=hosts)
    most = store.most_rooms(since=since, hosts=hosts)
    names = set(most).union(one.host for one in (*calls, *incidents, *repairs, *deploys))
    return {
        name: HistoryPart(
            calls=[one for one in calls if one.host == name],
            incidents=[one for one in incidents if one.host == name],
            repairs=[one for one in repairs if one.host == name],
            deploys=[one for one in deploys if one.host == name],
            most=most.get(name, NO_ROOMS),
        )
        for name in sorted(names)
    }


def _host(part: HistoryPart, asked: list[str]) -> HistoryHost:
    times = part.answer_times_s
    host: HistoryHost = {
        "ok": True,
        "call_count": len(part.calls),
        "answered_count": part.answered_count,
        "success": None if part.success is None else round(part.success, 4),
        "answer_p50_s": round(percentile(times, 50), 3) if times else None,
        "answer_p95_s": round(percentile(times, 95), 3) if times else None,
        "open_incident_count": len(part.open_incidents),
        "most_room_count": part.most.room_count,
        "most_waiting_count": part.most.waiting_count,
        "most_stuck_count": part.most.stuck_count,
    }
    if not asked or "calls" in asked:
        host["calls"] = [call_entry(one) for one in part.calls]
    if not asked or "incidents" in asked:
        host["incidents"] = [incident_entry(one) for one in part.incidents]
    if not asked or "repairs" in asked:
        host["repairs"] = [repair_entry(one) for one in part.repairs]
    if not asked or "deploys" in asked:
        host["deploys"] = [deploy_entry(one) for one in part.deploys]
    return host


def call_entry(call: CallRecord) -> HistoryCall:
    """One call as the document has it."""
    return {
        "id": call.id,
        "started_at": iso_time(call.started_at),
        "ended_at": None if call.ended_at is None else iso_time(call.ended_at),
        "kind": call.kind,
        "outcome": call.outcome,
        "answer_s": call.answer_s,
        "detail": call.detail,
        "caller": call.caller,
    }


def incident_entry(incident: IncidentRecord) -> HistoryIncident:
    """One incident as the document has it."""
    return {
        "id": incident.id,
        "began_at": iso_time(incident.began_at),
        "ended_at": None if incident.ended_at is None else iso_time(incident.ended_at),
        "cause": incident.cause,
        "subject": incident.subject,
        "sentence": incident.sentence,
        "fix": incident.fix,
    }


def repair_entry(repair: RepairRecord) -> HistoryRepair:
    """One repair as the document has it."""
    return {
        "id": repair.id,
        "at": iso_time(repair.at),
        "action": repair.action,
        "subject": repair.subject,
        "reason": repair.reason,
        "incident": repair.incident,
        "ok": repair.ok,
        "detail": repair.error,
        "took_s": repair.took_s,
        "attempt_count": repair.attempt,
    }


def deploy_entry(deploy: DeployRecord) -> HistoryDeploy:
    """One deploy as the document has it."""
    return {
        "id": deploy.id,
        "at": iso_time(deploy.at),
        "action": deploy.action,
        "ok": deploy.ok,
        "release": deploy.release,
        "changed_count": deploy.changed_count,
        "by": deploy.by,
        "detail": deploy.detail,
        "took_s": deploy.took_s,
    }
