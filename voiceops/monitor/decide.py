"""Decide what the monitor does: memory, observations and now in; repairs, events and the new memory out.

Pure: no clock, no I/O. ``voiceops.monitor.loop`` observes, saves the memory and only then carries the repairs out,
so that a monitor that is killed in between neither repeats a repair without backoff nor forgets an incident.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from voiceops.model.monitor_events import AlertRaised, Incident, MonitorEvent
from voiceops.model.states import ServiceState
from voiceops.monitor.memory import MonitorMemory, OpenIncident, ServiceMemory

WELL_FOR_S = 60.0
"""So long a service has to be ready before its restarts are forgotten."""
BACKOFF_MAX_S = 60.0
RESTART_LIMIT = 10
"""Restarts without ``WELL_FOR_S`` of good health in between; after the last one a person is asked."""
SURE_AFTER_CHECKS = 3
SURE_AFTER_S = 4.0
"""What may be a machine under load counts once it was seen so often, over so long a time."""
LOOK_AGAIN_S = 2.0
SILENT_CHECKS = 2
"""Checks in a row at which LiveKit does not answer before that is an incident."""


class ServiceObservation(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found of one service."""

    name: str
    state: ServiceState
    detail: str = ""
    wanted: bool = True
    """Somebody has started it and nobody has stopped it since."""
    needs_met: bool = True
    """All that it needs on this host is ready."""
    needs_wanted: bool = True
    """Nobody has stopped what it needs."""
    policy: str = "always"
    """``always``, ``on-failure``, ``never``."""
    frozen: bool = False
    """The kernel has stopped its process."""
    ended_well: bool = False
    """Its process is known to have exited with 0."""
    in_hand: bool = False
    """A repair of it is under way."""
    age_s: float = 0.0
    ready_timeout_s: float = 60.0


class Observations(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one check found."""

    services: tuple[ServiceObservation, ...] = ()
    held_by: str = ""
    """Who else holds the lock; empty: nobody."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Now, by both clocks."""

    boot_s: float
    """Seconds since boot: decides, as nobody can set it."""
    epoch_s: float
    """Seconds since the epoch: for people."""


class ServiceRepair(msgspec.Struct, frozen=True, kw_only=True):
    """One service to bring back."""

    service: str
    cause: str
    reason: str
    incident: str
    attempt: int
    frozen: bool = False
    resume: bool = False
    """Make a frozen one go on, which harms no call. One that is stopped again is replaced."""


class MonitorDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What one check comes to."""

    memory: MonitorMemory
    repairs: tuple[ServiceRepair, ...] = ()
    events: tuple[MonitorEvent, ...] = ()
    look_again_s: float | None = None
    """The next check is due so soon; None: after the usual time."""


def backoff_s(restart_count: int) -> float:
    """Seconds between a restart and the next one: 1, 2, 4, ... up to 60."""
    return float(min(BACKOFF_MAX_S, 2 ** min(max(restart_count - 1, 0), 10)))


def cause_of(seen: ServiceObservation) -> str:
    """Return what is wrong with a service in one word; empty where nothing is."""
    if seen.frozen:
        return "service-frozen"
    if seen.state in (ServiceState.MISSING, ServiceState.STALE, ServiceState.FAILED, ServiceState.STOPPED):
        return "service-dead"
    if seen.state is ServiceState.UNRESPONSIVE:
        return "service-unresponsive"
    if seen.state is ServiceState.DUPLICATE:
        return "service-duplicate"
    if seen.state is ServiceState.STRAY:
        return "service-stray"
    if seen.state is ServiceState.DRAINING:
        return "service-draining"
    if seen.state is ServiceState.STARTING and seen.needs_met and seen.age_s > seen.ready_timeout_s:
        return "service-not-ready"
    return ""


def _reason(seen: ServiceObservation) -> str:
    return "the kernel has stopped its process" if seen.frozen else seen.detail or seen.state.value


_SURE = frozenset({"service-frozen", "service-dead"})
"""The kernel itself says so."""
_BY_HAND = frozenset({"service-stray"})
"""Nothing foreign is ended by itself."""


def decide(host: str, memory: MonitorMemory, seen: Observations, now: Moment) -> MonitorDecision:
    """Decide on one check of ``host``."""
    services: dict[str, ServiceMemory] = {}
    repairs: list[ServiceRepair] = []
    events: list[MonitorEvent] = []
    due: list[float] = []
    for one in seen.services:
        before = memory.services.get(one.name, ServiceMemory())
        after, repair, said = _decide_service(host, before, one, seen.held_by, now)
        services[one.name] = after
        events += said
        if repair is not None:
            repairs.append(repair)
        if one.wanted and one.state is ServiceState.STARTING:
            due.append(LOOK_AGAIN_S)  # of an agent that is ready soon, its name at LiveKit has to be known
        if after.cause and one.wanted and not after.gave_up and not one.in_hand:
            at_least_s = 0.0 if after.cause in _SURE and not seen.held_by else LOOK_AGAIN_S
            due.append(max(at_least_s, after.not_before - now.boot_s))
    for name, before in memory.services.items():
        if name not in services and before.incident is not None:
            events.append(ended_event(host, before.incident, name, now))
    return MonitorDecision(
        memory=msgspec.structs.replace(memory, services=services),
        repairs=tuple(repairs),
        events=tuple(events),
        look_again_s=max(0.5, min(due)) if due else None,
    )


def _decide_service(
    host: str, before: ServiceMemory, seen: ServiceObservation, held_by: str, now: Moment
) -> tuple[ServiceMemory, ServiceRepair | None, list[MonitorEvent]]:
    cause = cause_of(seen) if seen.wanted else ""
    if seen.in_hand:
        return before, None, []
    if not cause:
        return _without_cause(host, before, seen, now)
    same = cause == before.cause
    after = msgspec.structs.replace(
        before,
        cause=cause,
        seen_count=before.seen_count + 1 if same else 1,
        cause_since=before.cause_since if same else now.boot_s,
        well_since=None,
    )
    sure = cause in _SURE or (
        after.seen_count >= SURE_AFTER_CHECKS and now.boot_s - after.cause_since >= SURE_AFTER_S
    )
    if not sure or held_by:
        # Whoever holds the lock is changing the stack: what is missing now may be meant to be.
        return after, None, []
    events: list[MonitorEvent] = []
    incident = after.incident
    if incident is None:
        incident = OpenIncident(
            incident=f"{int(now.epoch_s * 1000):x}-{seen.name}",
            cause=cause,
            sentence=f"{seen.name}: {_reason(seen)}",
            fix=f"inv start --only {seen.name}",
            began_at=now.epoch_s,
        )
        after = msgspec.structs.replace(after, incident=incident)
        events.append(incident_event(host, incident, seen.name, now))
    if not _may_restart(seen, cause) or now.boot_s < after.not_before or after.gave_up:
        return after, None, events
    if after.restart_count >= RESTART_LIMIT:
        after = msgspec.structs.replace(after, gave_up=True)
        events.append(limit_alert(host, after, seen.name, now))
        return after, None, events
    attempt = after.restart_count + 1
    resume = seen.frozen and not after.resumed
    repair = ServiceRepair(
        service=seen.name,
        cause=cause,
        reason=_reason(seen),
        incident=incident.incident,
        attempt=attempt,
        frozen=seen.frozen,
        resume=resume,
    )
    after = msgspec.structs.replace(
        after,
        restart_count=attempt,
        not_before=now.boot_s + backoff_s(attempt),
        cause_since=now.boot_s,
        resumed=after.resumed or resume,
    )
    return after, repair, events


def _without_cause(
    host: str, before: ServiceMemory, seen: ServiceObservation, now: Moment
) -> tuple[ServiceMemory, ServiceRepair | None, list[MonitorEvent]]:
    """Nothing is wrong with it, or it was stopped, or it is on its way."""
    events: list[MonitorEvent] = []
    if not seen.wanted:
        if before.incident is not None:
            events.append(ended_event(host, before.incident, seen.name, now))
        if before.gave_up:
            events.append(limit_alert(host, before, seen.name, now, resolved=True))
        return ServiceMemory(), None, events
    if not seen.state.ok:
        return msgspec.structs.replace(before, well_since=None, cause="", seen_count=0), None, []
    well_since = now.boot_s if before.well_since is None else before.well_since
    after = msgspec.structs.replace(before, well_since=well_since, cause="", seen_count=0, incident=None)
    if before.incident is not None:
        events.append(ended_event(host, before.incident, seen.name, now))
    if now.boot_s - well_since >= WELL_FOR_S:
        if before.gave_up:
            events.append(limit_alert(host, before, seen.name, now, resolved=True))
        after = msgspec.structs.replace(after, restart_count=0, not_before=0.0, resumed=False, gave_up=False)
    return after, None, events


def _may_restart(seen: ServiceObservation, cause: str) -> bool:
    if cause in _BY_HAND or not seen.needs_wanted or seen.policy == "never":
        return False
    return not (seen.policy == "on-failure" and cause == "service-dead" and seen.ended_well)


def decide_livekit(host: str, memory: MonitorMemory, answers: bool, now: Moment) -> MonitorDecision:
    """Decide on whether LiveKit's API ``answers``.

    That it does not is said, and nothing else is done: what can't be known is not "nobody".
    """
    if answers:
        ended = () if memory.silent is None else (ended_event(host, memory.silent, "", now),)
        return MonitorDecision(
            memory=msgspec.structs.replace(memory, silent_count=0, silent=None), events=ended
        )
    memory = msgspec.structs.replace(memory, silent_count=memory.silent_count + 1)
    if memory.silent is not None or memory.silent_count < SILENT_CHECKS:
        return MonitorDecision(memory=memory)
    opened = OpenIncident(
        incident=f"{int(now.epoch_s * 1000):x}-livekit-silent",
        cause="livekit-unreachable",
        sentence="LiveKit's API does not answer, so nothing is known of rooms and calls",
        fix="inv why",
        began_at=now.epoch_s,
    )
    return MonitorDecision(
        memory=msgspec.structs.replace(memory, silent=opened), events=(incident_event(host, opened, "", now),)
    )


def not_tried(memory: MonitorMemory, repairs: Sequence[ServiceRepair], now: Moment) -> MonitorMemory:
    """Return the memory as if these repairs had not been decided: somebody else held the lock."""
    services = dict(memory.services)
    for one in repairs:
        known = services.get(one.service, ServiceMemory())
        services[one.service] = msgspec.structs.replace(
            known, restart_count=max(0, known.restart_count - 1), not_before=now.boot_s + LOOK_AGAIN_S
        )
    return msgspec.structs.replace(memory, services=services)


def incident_event(
    host: str, one: OpenIncident, subject: str, now: Moment, ended_at: float | None = None
) -> Incident:
    """Return the record of an incident that began, or goes on with another sentence."""
    return Incident(
        at=now.epoch_s,
        host=host,
        incident=one.incident,
        cause=one.cause,
        subject=subject,
        sentence=one.sentence,
        fix=one.fix,
        began_at=one.began_at,
        ended_at=ended_at,
    )


def ended_event(host: str, one: OpenIncident, subject: str, now: Moment) -> Incident:
    """Return the record of an incident that is over."""
    # The clock may have been set back meanwhile.
    return incident_event(host, one, subject, now, ended_at=max(now.epoch_s, one.began_at))


def limit_alert(
    host: str, memory: ServiceMemory, service: str, now: Moment, *, resolved: bool = False
) -> AlertRaised:
    """Return the alert that a service is left as it is, with what ``why`` has found of it."""
    known = memory.incident if memory.incident and memory.incident.rule else None
    return AlertRaised(
        at=now.epoch_s,
        host=host,
        alert="restart-limit",
        subject=service,
        sentence=f"{service} was restarted {memory.restart_count} times and did not stay well: it is left as it is."
        + (f" {known.sentence}" if known else ""),
        fix=known.fix if known else f"inv start --only {service}",
        resolved=resolved,
        incident=memory.incident.incident if memory.incident else "",
    )
