"""Decide what the monitor makes of the findings of ``why``: incidents, alerts, repairs. Pure, as ``monitor.decide``.

What ``decide`` repairs by itself (services that died, froze or do not answer) gets the sentence and the fix of its
finding; all other findings are incidents of their own. Warnings are so only where they can be repaired: a worker that is
full for a moment would be an incident with every call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from voiceops.model.findings import Diagnosis, Finding
from voiceops.model.monitor_events import AlertRaised, MonitorEvent
from voiceops.monitor.decide import (
    LOOK_AGAIN_S,
    Moment,
    ServiceObservation,
    ended_event,
    incident_event,
    limit_alert,
)
from voiceops.monitor.memory import FindingMemory, MonitorMemory, OpenIncident, RepairMemory

SURE_AFTER_DIAGNOSES = 2
SURE_AFTER_S = 10.0
REPAIR_AFTER_S = 30.0
"""Longer than a join takes on a full machine, and than the watcher of rooms waits before it sends another agent."""
REPAIR_PAUSE_S, REPAIR_PAUSE_MAX_S = 30.0, 600.0
REPAIR_LIMIT = 5
REMEMBERED_S = 1800.0
"""What comes back within it is repaired no sooner than its backoff says: more than twice the longest pause."""
_OF_SERVICES = frozenset(
    {
        *(
            "server-down",
            "stray-server",
            "no-worker",
            "port-taken",
            "agent-code",
            "worker-frozen",
            "stray-worker",
        ),
        *(
            "duplicate-workers",
            "worker-starting",
            "worker-not-registered",
            "worker-wrong-url",
            "worker-wrong-key",
            "service-down",
            "refused-password",
        ),
    }
)
"""Of a service, these say why it is in a state that ``decide`` acts on; of a room, they are causes of their own."""
_ALERTED_OTHERWISE = frozenset({"clock-skew"})
"""The alert ``clock`` tells of it."""


class FindingRepair(msgspec.Struct, frozen=True, kw_only=True):
    """One finding whose steps are to be carried out."""

    finding: Finding
    incident: str
    attempt: int


class FindingsDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What one diagnosis comes to."""

    memory: MonitorMemory
    repairs: tuple[FindingRepair, ...] = ()
    events: tuple[MonitorEvent, ...] = ()
    look_again_s: float | None = None
    """The next diagnosis is due so soon; None: after the usual time."""


def repair_pause_s(count: int) -> float:
    """Seconds between a repair of a finding and the next one: 30, 60, 120, ... up to 600."""
    return float(min(REPAIR_PAUSE_MAX_S, REPAIR_PAUSE_S * 2 ** min(max(count - 1, 0), 10)))


def key_of(finding: Finding) -> str:
    """Return what tells a finding from others; those of rooms are one for each rule, as their cause is."""
    return f"{finding.rule}-in-room " if finding.room_sid else f"{finding.rule} {finding.service}"


def relevant(findings: Iterable[Finding], services: Sequence[ServiceObservation]) -> tuple[Finding, ...]:
    """Leave out what concerns a service that a person has stopped, and what is no fault."""
    unwanted = {one.name for one in services if not one.wanted}
    return tuple(
        one
        for one in findings
        if one.service not in unwanted
        and (one.severity == "error" or (one.severity == "warning" and one.repairable))
    )


def for_people(finding: Finding) -> str:
    """Return the finding's fix without the steps that name a room: a room's name can identify a caller."""
    fixes = tuple(fix for fix in finding.fixes if not fix.room)
    return replace(finding, fixes=fixes).fix or "inv why --fix"


def decide_findings(
    host: str,
    memory: MonitorMemory,
    seen: Diagnosis,
    services: Sequence[ServiceObservation],
    now: Moment,
    *,
    may_act: bool,
) -> FindingsDecision:
    """Decide on one diagnosis. ``may_act``: nobody else changes the stack, and no repair of it is under way."""
    found = relevant(seen.findings, services)
    memory, events = _lend(host, memory, found, now)
    groups: dict[str, list[Finding]] = {}
    for one in found:
        if not _belongs_to_service(one, memory):
            groups.setdefault(key_of(one), []).append(one)
    after: dict[str, FindingMemory] = {}
    repairs: list[FindingRepair] = []
    due: list[float] = []
    for key, before in memory.findings.items():
        if key not in groups:
            kept, said = _absent(host, key, before, now, complete=seen.complete)
            events += said
            if kept is not None:
                after[key] = kept
    for key, group in groups.items():
        known, todo, said = _decide_group(
            host, key, memory.findings.get(key), group, now, may_act=may_act, complete=seen.complete
        )
        after[key] = known
        repairs += todo
        events += said
        if known.incident is None:
            due.append(max(LOOK_AGAIN_S, known.since + SURE_AFTER_S - now.boot_s))
    return FindingsDecision(
        memory=msgspec.structs.replace(memory, findings=after),
        repairs=tuple(repairs),
        events=tuple(events),
        look_again_s=min(due, default=None),
    )


def _belongs_to_service(finding: Finding, memory: MonitorMemory) -> bool:
    if finding.room_sid:
        return False
    known = memory.services.get(finding.service)
    return finding.rule in _OF_SERVICES or (known is not None and bool(known.cause or known.incident))


def _decide_group(
    host: str,
    key: str,
    before: FindingMemory | None,
    group: Sequence[Finding],
    now: Moment,
    *,
    may_act: bool,
    complete: bool,
) -> tuple[FindingMemory, list[FindingRepair], list[MonitorEvent]]:
    known = before or FindingMemory()
    again = known.absent_since is not None or not known.seen_count
    after = msgspec.structs.replace(
        known,
        seen_count=1 if again else known.seen_count + 1,
        since=now.boot_s if again else known.since,
        absent_since=None,
        repairs=_places(known.repairs, {one.room_sid for one in group}, now, complete=complete),
    )
    sure = after.seen_count >= SURE_AFTER_DIAGNOSES and now.boot_s - after.since >= SURE_AFTER_S
    if not may_act or not (sure or after.incident is not None):
        return after, [], []
    events: list[MonitorEvent] = []
    first = group[0]
    incident = after.incident
    if incident is None:
        incident = OpenIncident(
            incident=f"{int(now.epoch_s * 1000):x}-{key.strip().replace(' ', '-')}",
            cause=first.rule,
            sentence=first.sentence,
            fix=for_people(first),
            began_at=now.epoch_s,
        )
        events.append(incident_event(host, incident, first.service, now))
    due = [one for one in group if _may_repair(one, after.repairs[one.room_sid], now)]
    counts = {one.room_sid: after.repairs[one.room_sid].count + 1 for one in due}
    places = {
        sid: msgspec.structs.replace(
            one, count=counts[sid], not_before=now.boot_s + repair_pause_s(counts[sid])
        )
        if sid in counts
        else one
        for sid, one in after.repairs.items()
    }
    repairs = [
        FindingRepair(finding=one, incident=incident.incident, attempt=counts[one.room_sid]) for one in due
    ]
    needs_person = any(not one.repairable or _in_vain(places[one.room_sid], now) for one in group)
    alerts = needs_person and not after.alerted and first.rule not in _ALERTED_OTHERWISE
    if alerts:
        events.append(_alert(host, key, incident, now))
    return (
        msgspec.structs.replace(after, incident=incident, repairs=places, alerted=after.alerted or alerts),
        repairs,
        events,
    )


def _places(
    before: Mapping[str, RepairMemory], here: Collection[str], now: Moment, *, complete: bool
) -> dict[str, RepairMemory]:
    """Where it is found now, and where it was repaired so recently that it may come back."""
    places = {
        sid: one if one.since is None or not complete else msgspec.structs.replace(one, since=None)
        for sid, one in before.items()
        if sid not in here and (not complete or now.boot_s - one.not_before < REMEMBERED_S)
    }
    for sid in here:
        one = before.get(sid, RepairMemory())
        places[sid] = one if one.since is not None else msgspec.structs.replace(one, since=now.boot_s)
    return places


def _may_repair(finding: Finding, place: RepairMemory, now: Moment) -> bool:
    return (
        finding.repairable
        and place.count < REPAIR_LIMIT
        and place.since is not None
        and now.boot_s - place.since >= REPAIR_AFTER_S
        and now.boot_s >= place.not_before
    )


def _in_vain(place: RepairMemory, now: Moment) -> bool:
    return place.count >= REPAIR_LIMIT and now.boot_s >= place.not_before


def _absent(
    host: str, key: str, before: FindingMemory, now: Moment, *, complete: bool
) -> tuple[FindingMemory | None, list[MonitorEvent]]:
    """A rule that found nothing, or could not know."""
    if not complete:
        return before, []
    events: list[MonitorEvent] = []
    if before.incident is not None:
        events.append(ended_event(host, before.incident, key.partition(" ")[2], now))
        if before.alerted:
            events.append(_alert(host, key, before.incident, now, resolved=True))
    absent_since = now.boot_s if before.absent_since is None else before.absent_since
    places = _places(before.repairs, (), now, complete=True)
    if not any(one.count for one in places.values()):
        return None, events
    after = msgspec.structs.replace(
        before, seen_count=0, absent_since=absent_since, incident=None, alerted=False, repairs=places
    )
    return after, events


def _alert(
    host: str, key: str, incident: OpenIncident, now: Moment, *, resolved: bool = False
) -> AlertRaised:
    return AlertRaised(
        at=now.epoch_s,
        host=host,
        alert=incident.cause,
        subject=key.partition(" ")[2],
        sentence=incident.sentence,
        fix=incident.fix,
        resolved=resolved,
        incident=incident.incident,
    )


def _lend(
    host: str, memory: MonitorMemory, findings: Sequence[Finding], now: Moment
) -> tuple[MonitorMemory, list[MonitorEvent]]:
    """Give the open incidents of services, and of a LiveKit that is silent, the sentence and the fix of their finding."""
    events: list[MonitorEvent] = []
    services = dict(memory.services)
    for name, known in memory.services.items():
        told = _told(known.incident, (one for one in findings if one.service == name and not one.room_sid))
        if told is None:
            continue
        services[name] = after = msgspec.structs.replace(known, incident=told)
        events.append(incident_event(host, told, name, now))
        if after.gave_up:
            events.append(limit_alert(host, after, name, now))
    silent = _told(memory.silent, (one for one in findings if one.rule == "server-down"))
    if silent is not None:
        memory = msgspec.structs.replace(memory, silent=silent)
        events.append(incident_event(host, silent, "", now))
    return msgspec.structs.replace(memory, services=services), events


def _told(incident: OpenIncident | None, findings: Iterable[Finding]) -> OpenIncident | None:
    """The incident with what the first of these says; None where that is nothing new."""
    first = next(iter(findings), None)
    if incident is None or first is None or incident.rule == first.rule:
        return None
    return msgspec.structs.replace(incident, rule=first.rule, sentence=first.sentence, fix=for_people(first))
