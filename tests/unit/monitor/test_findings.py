"""What the monitor makes of the findings of ``why``, through days of simulated ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceops.model.findings import Diagnosis, Finding, Fix
from voiceops.model.monitor_events import AlertRaised, Incident
from voiceops.model.states import ServiceState
from voiceops.monitor.decide import Moment, Observations, ServiceObservation, decide
from voiceops.monitor.findings import (
    REMEMBERED_S,
    REPAIR_AFTER_S,
    REPAIR_LIMIT,
    REPAIR_PAUSE_MAX_S,
    SURE_AFTER_S,
    FindingRepair,
    decide_findings,
    repair_pause_s,
)
from voiceops.monitor.memory import MonitorMemory, of_this_boot, open_incidents

READY = ServiceObservation(name="agent", state=ServiceState.READY)
START = Fix(command="inv start --only agent", action="start", service="agent")


def at(boot_s: float) -> Moment:
    return Moment(boot_s=boot_s, epoch_s=1_700_000_000 + boot_s)


def finding(rule: str = "worker-drain-stuck", *fixes: Fix, **changes: object) -> Finding:
    one = Finding(
        rule=rule,
        sentence=f"The sentence of {rule}.",
        evidence=("seen",),
        fixes=fixes or (START,),
        service="agent",
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def by_hand(rule: str = "calls-failed", **changes: object) -> Finding:
    return finding(rule, Fix(command="correct agent.py:31", action=""), by_hand=True, **changes)


def in_room(sid: str, rule: str = "entrypoint-hung") -> Finding:
    fix = Fix(command="inv rooms.dispatch alice", action="dispatch", room="alice")
    return finding(rule, fix, service="", room="alice", room_sid=sid)


def diagnosed(*found: Finding, complete: bool = True) -> Diagnosis:
    return Diagnosis(findings=found, complete=complete)


def through(
    *seen: tuple[float, Diagnosis], memory: MonitorMemory | None = None, **observed: object
) -> tuple[list[list[FindingRepair]], list[object], MonitorMemory]:
    """The repairs of one diagnosis after the other, all events, and the memory at the end."""
    memory = memory or MonitorMemory()
    service = msgspec.structs.replace(READY, **observed)
    repairs: list[list[FindingRepair]] = []
    events: list[object] = []
    for when, one in seen:
        done = decide_findings("here", memory, one, [service], at(when), may_act=True)
        memory = done.memory
        repairs.append(list(done.repairs))
        events += done.events
    return repairs, events, memory


def kinds(events: Sequence[object]) -> list[tuple[str, bool]]:
    """Incidents by cause and alerts by name, each with whether it goes on."""
    return [
        (one.cause, one.ended_at is None)
        if isinstance(one, Incident)
        else (f"alert {one.alert}", not one.resolved)
        for one in events
        if isinstance(one, (Incident, AlertRaised))
    ]


def test_what_has_a_safe_fix_is_an_incident_at_the_second_look_and_repaired_with_growing_pauses() -> None:
    here = diagnosed(finding())
    repairs, events, _ = through(*((15.0 * number, here) for number in range(16)))
    assert [number for number, each in enumerate(repairs) if each] == [2, 4, 8]
    assert [repair_pause_s(count) for count in range(1, 8)] == [30, 60, 120, 240, 480, 600, 600]
    assert [one.attempt for each in repairs for one in each] == [1, 2, 3]
    assert kinds(events) == [("worker-drain-stuck", True)]


def test_a_repair_that_never_helps_is_given_up_with_an_alert() -> None:
    here = diagnosed(finding())
    repairs, events, _ = through(*((30.0 * number, here) for number in range(100)))
    assert sum(map(len, repairs)) == REPAIR_LIMIT
    assert kinds(events) == [("worker-drain-stuck", True), ("alert worker-drain-stuck", True)]


def test_what_needs_a_person_is_told_with_its_sentence_and_fix_and_not_repaired() -> None:
    repairs, events, memory = through((0.0, diagnosed(by_hand())), (30.0, diagnosed(by_hand())))
    assert repairs == [[], []]
    incident, alert = events
    assert isinstance(incident, Incident)
    assert isinstance(alert, AlertRaised)
    assert (alert.alert, alert.subject) == ("calls-failed", "agent")
    assert (alert.sentence, alert.fix) == ("The sentence of calls-failed.", "correct agent.py:31")
    assert (incident.sentence, incident.fix) == (alert.sentence, alert.fix)
    assert [subject for subject, _ in open_incidents(memory)] == ["agent"]
    _, over, _ = through((60.0, diagnosed()), memory=memory)
    assert kinds(over) == [("calls-failed", False), ("alert calls-failed", False)]


def test_one_look_is_not_enough_and_a_look_that_knows_nothing_ends_nothing() -> None:
    found = by_hand()
    assert through((0.0, diagnosed(found)), (30.0, diagnosed()), (60.0, diagnosed(found)))[1] == []
    assert through((0.0, diagnosed(found)), (2.0, diagnosed(found)))[1] == []
    _, events, memory = through((0.0, diagnosed(found)), (30.0, diagnosed(found)))
    assert len(events) == 2
    assert through((60.0, diagnosed(complete=False)), memory=memory)[1] == []


def test_warnings_count_only_where_they_can_be_repaired() -> None:
    full = by_hand("worker-over-load", severity="warning")
    assert through((0.0, diagnosed(full)), (30.0, diagnosed(full)))[1] == []
    stuck = finding(severity="warning")
    assert kinds(through((0.0, diagnosed(stuck)), (30.0, diagnosed(stuck)))[1]) == [
        ("worker-drain-stuck", True)
    ]
    hint = finding(severity="info")
    assert through((0.0, diagnosed(hint)), (30.0, diagnosed(hint)))[1] == []


def test_what_ends_a_stranger_or_kills_is_left_to_a_person() -> None:
    replaced = finding("stray", Fix(command="inv start --replace", action="replace", service="agent"))
    killed = finding("frozen", replace(START, action="restart", now=True))
    for one in (replaced, killed):
        repairs, events, _ = through(*((30.0 * number, diagnosed(one)) for number in range(5)))
        assert not any(repairs)
        assert kinds(events)[1][0].startswith("alert")


def test_a_finding_about_a_service_that_a_person_stopped_is_no_fault() -> None:
    assert through((0.0, diagnosed(finding())), (60.0, diagnosed(finding())), wanted=False)[1] == []


def test_a_room_is_repaired_only_when_the_watcher_has_had_its_time_and_its_name_is_told_nobody() -> None:
    first, second = in_room("RM_1"), in_room("RM_2")
    repairs, events, _ = through(
        (0.0, diagnosed(first)),
        (15.0, diagnosed(first)),
        (31.0, diagnosed(first, second)),
        (45.0, diagnosed(second)),
        (62.0, diagnosed(second)),
    )
    assert [[one.finding.room_sid for one in each] for each in repairs] == [[], [], ["RM_1"], [], ["RM_2"]]
    assert kinds(events) == [("entrypoint-hung", True)]
    assert "alice" not in str(events)


def test_an_open_incident_of_a_service_gets_the_sentence_and_the_fix_of_its_finding() -> None:
    dead = msgspec.structs.replace(READY, state=ServiceState.STALE)
    memory = decide("here", MonitorMemory(), Observations(services=(dead,)), at(0.0)).memory
    code = by_hand("agent-code")
    done = decide_findings("here", memory, diagnosed(code), [dead], at(1.0), may_act=False)
    (told,) = done.events
    assert isinstance(told, Incident)
    assert (told.cause, told.sentence, told.fix) == (
        "service-dead",
        "The sentence of agent-code.",
        "correct agent.py:31",
    )
    again = decide_findings("here", done.memory, diagnosed(code), [dead], at(30.0), may_act=True)
    assert (again.events, again.repairs) == ((), ()), "it is said once, and no second incident begins"
    when, memory, alerts = 2.0, again.memory, []
    for _ in range(400):
        decision = decide("here", memory, Observations(services=(dead,)), at(when))
        memory, when = decision.memory, when + 2.0
        alerts += [one for one in decision.events if isinstance(one, AlertRaised)]
    (limit,) = alerts
    assert limit.sentence.endswith("it is left as it is. The sentence of agent-code.")
    assert limit.fix == "correct agent.py:31"


def test_times_of_another_boot_are_dropped_and_the_incident_stays() -> None:
    _, _, memory = through(*((30.0 * number, diagnosed(finding())) for number in range(4)))
    later = of_this_boot(msgspec.structs.replace(memory, boot="b1"), "b2")
    assert len(open_incidents(later)) == 1
    repairs, events, _ = through((5.0, diagnosed(finding())), (20.0, diagnosed(finding())), memory=later)
    assert (repairs, events) == ([[], []], [])


# -- days of findings --------------------------------------------------------------------------------------------------

POOL = {
    "drain": finding(),
    "calls": by_hand(),
    "clock": by_hand("clock-skew", service=""),
    "full": by_hand("worker-over-load", severity="warning"),
    "stray": finding("server-not-ready", Fix(command="inv restart", action="replace"), service="livekit"),
    "room-1": in_room("RM_1"),
    "room-2": in_room("RM_2"),
    "mute": by_hand("provider-failed", service="", room="bob", room_sid="RM_3"),
}
FAULTS = {key for key in POOL if key != "full"}


@dataclass
class Findings:
    """A stack with findings that come and go, and what may never happen."""

    now: float = 0.0
    memory: MonitorMemory = field(default_factory=MonitorMemory)
    here: set[str] = field(default_factory=set)
    found: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Since when diagnoses find it, and how many in a row while the monitor might act."""
    wanted: bool = True
    blind_until: float = 0.0
    locked_until: float = 0.0
    open: dict[str, str] = field(default_factory=dict)
    alerts: set[str] = field(default_factory=set)
    alert_count: int = 0
    changes: int = 0
    repaired: dict[str, list[float]] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    def happen(self, what: str) -> None:
        self.changes += 1
        if what in POOL:
            self.here ^= {what}
        elif what == "stop":
            self.wanted = not self.wanted
            self.found = {key: (since, 0) for key, (since, _) in self.found.items()}
        elif what == "blind":
            self.blind_until = self.now + self.chance.uniform(0, 600)
        elif what == "lock":
            self.locked_until = self.now + self.chance.uniform(0, 600)
        elif what == "kill-monitor":
            self.memory = msgspec.json.decode(msgspec.json.encode(self.memory), type=MonitorMemory)

    def go_on(self, for_s: float) -> None:
        until = self.now + for_s
        while self.now < until:
            self.now += self.look()

    def look(self) -> float:
        blind, locked = self.now < self.blind_until, self.now < self.locked_until
        seen = [] if blind else [key for key in POOL if key in self.here]
        if not blind:
            before = self.found
            self.found = {}
            for key in seen:
                if POOL[key].service == "agent" and not self.wanted:
                    continue
                since, count = before.get(key, (self.now, 0))
                self.found[key] = (since, 0 if locked else count + 1)
        service = msgspec.structs.replace(READY, wanted=self.wanted)
        done = decide_findings(
            "here",
            self.memory,
            diagnosed(*(POOL[key] for key in seen), complete=not blind),
            [service],
            at(self.now),
            may_act=not locked,
        )
        self.memory = done.memory
        self.hold_events(done.events, blind)
        for repair in done.repairs:
            self.hold_repair(repair, locked)
        if not (blind or locked):
            self.hold_notice()
        return min(30.0, done.look_again_s or 30.0)

    def hold_events(self, events: Sequence[object], blind: bool) -> None:
        for event in events:
            if isinstance(event, Incident) and event.ended_at is None:
                key = f"{event.cause} {event.subject}"
                assert key not in self.open, "an incident began within another of the same cause"
                self.open[key] = event.incident
            elif isinstance(event, Incident):
                assert not blind, "what could not be looked at is not over"
                assert self.open.pop(f"{event.cause} {event.subject}") == event.incident
            elif isinstance(event, AlertRaised):
                key = f"{event.alert} {event.subject}"
                assert event.resolved == (key in self.alerts), "each alert once, then its end"
                self.alerts ^= {key}
                self.alert_count += 1

    def hold_repair(self, repair: FindingRepair, locked: bool) -> None:
        one = repair.finding
        key = next(name for name, known in POOL.items() if known is one)
        assert one.repairable, "a person's work was done"
        assert not locked, "a repair while somebody else holds the lock"
        assert self.wanted or one.service != "agent", "a repair of what a person stopped"
        assert self.now - self.found[key][0] >= REPAIR_AFTER_S
        before = self.repaired.setdefault(key, [])
        assert not before or self.now - before[-1] >= repair_pause_s(1), "a repair without backoff"
        recent = [when for when in before if self.now - when < REPAIR_PAUSE_MAX_S]
        assert len(recent) < REPAIR_LIMIT
        before.append(self.now)

    def hold_notice(self) -> None:
        for key in FAULTS & set(self.found):
            since, count = self.found[key]
            one = POOL[key]
            if count > 2 and self.now - since > 2 * SURE_AFTER_S:
                assert f"{one.rule} {one.service}" in self.open, "a fault that nobody noticed"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*POOL, *POOL, "stop", "blind", "lock", "kill-monitor"]), st.floats(0.0, 1800.0)
        ),
        min_size=5,
        max_size=60,
    )
)
def test_whatever_is_found_for_a_day_nothing_is_repaired_without_backoff_or_forgotten(
    happening: list[tuple[str, float]],
) -> None:
    world = Findings()
    for what, pause_s in happening:
        world.happen(what)
        world.go_on(pause_s)
    assert world.alert_count <= 2 * world.changes
    world.here.clear()
    world.go_on(world.blind_until - world.now)
    world.go_on(REMEMBERED_S + REPAIR_PAUSE_MAX_S + 120.0)
    assert not world.open
    assert not world.alerts
    assert not world.memory.findings, "what is over long ago is forgotten"
