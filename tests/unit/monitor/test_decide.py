"""What the monitor decides, through weeks of simulated faults."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceops.model.monitor_events import AlertRaised, Incident
from voiceops.model.states import ServiceState
from voiceops.monitor.decide import (
    BACKOFF_MAX_S,
    RESTART_LIMIT,
    SURE_AFTER_CHECKS,
    WELL_FOR_S,
    Moment,
    Observations,
    ServiceObservation,
    ServiceRepair,
    backoff_s,
    decide,
    decide_livekit,
    not_tried,
)
from voiceops.monitor.memory import MonitorMemory

INTERVAL_S = 30.0
NAMES = ("livekit", "agent")


def at(boot_s: float) -> Moment:
    return Moment(boot_s=boot_s, epoch_s=1_700_000_000 + boot_s)


def dead(**changes: object) -> ServiceObservation:
    seen = ServiceObservation(name="agent", state=ServiceState.STALE, detail="pid 7 is gone")
    return msgspec.structs.replace(seen, **changes)


def ready(**changes: object) -> ServiceObservation:
    return dead(state=ServiceState.READY, detail="", **changes)


def steps(*seen: tuple[float, ServiceObservation], held_by: str = "") -> list[list[ServiceRepair]]:
    """The repairs of one check after the other."""
    memory, repairs = MonitorMemory(), []
    for when, one in seen:
        decision = decide("here", memory, Observations(services=(one,), held_by=held_by), at(when))
        memory = decision.memory
        repairs.append(list(decision.repairs))
    return repairs


def test_what_died_is_started_again_at_once() -> None:
    ((repair,),) = steps((0.0, dead()))
    assert (repair.service, repair.cause, repair.attempt) == ("agent", "service-dead", 1)


def test_what_a_person_stopped_stays_stopped() -> None:
    assert steps((0.0, dead(wanted=False)), (60.0, dead(wanted=False))) == [[], []]


def test_a_service_is_not_started_while_a_person_has_stopped_what_it_needs() -> None:
    assert steps((0.0, dead(needs_wanted=False)), (60.0, dead(needs_wanted=False))) == [[], []]


def test_nothing_is_done_and_no_incident_begins_while_somebody_holds_the_lock() -> None:
    decision = decide(
        "here", MonitorMemory(), Observations(services=(dead(),), held_by="inv deploy"), at(0.0)
    )
    assert (decision.repairs, decision.events) == ((), ())


@pytest.mark.parametrize(
    ("policy", "ended_well", "count"),
    [("never", False, 0), ("on-failure", True, 0), ("on-failure", False, 1), ("always", True, 1)],
)
def test_the_policy_says_what_is_started_again(policy: str, ended_well: bool, count: int) -> None:
    (repairs,) = steps((0.0, dead(policy=policy, ended_well=ended_well)))
    assert len(repairs) == count


def test_what_may_be_a_machine_under_load_is_looked_at_three_times() -> None:
    mute = dead(state=ServiceState.UNRESPONSIVE)
    repairs = steps((0.0, mute), (2.0, mute), (4.0, mute))
    assert [len(one) for one in repairs] == [0, 0, 1]
    assert SURE_AFTER_CHECKS == 3


def test_an_incident_lasts_no_negative_time_where_the_clock_is_set_back() -> None:
    memory = decide("here", MonitorMemory(), Observations(services=(dead(),)), at(0.0)).memory
    later = Moment(boot_s=10.0, epoch_s=at(0.0).epoch_s - 3600)
    (over,) = decide("here", memory, Observations(services=(ready(),)), later).events
    assert isinstance(over, Incident)
    assert over.ended_at == over.began_at


def test_a_frozen_service_counts_at_once() -> None:
    ((repair,),) = steps((0.0, ready(frozen=True)))
    assert repair.frozen


def test_a_frozen_service_is_resumed_once_and_replaced_when_it_is_frozen_again() -> None:
    frozen, well = ready(frozen=True), ready()
    repairs = steps((0.0, frozen), (1.0, well), (5.0, frozen), (10.0, well), (90.0, well), (100.0, frozen))
    assert [[one.resume for one in each] for each in repairs] == [[True], [], [False], [], [], [True]]


def test_what_was_started_again_and_is_frozen_then_is_resumed_first() -> None:
    repairs = steps((0.0, dead()), (3.0, ready(frozen=True)))
    assert [one.resume for each in repairs for one in each] == [False, True]


def test_a_stray_is_named_and_never_ended() -> None:
    stray = dead(state=ServiceState.STRAY)
    assert steps(*((2.0 * number, stray) for number in range(20))) == [[]] * 20


def test_the_backoff_grows_from_one_second_to_sixty() -> None:
    assert [backoff_s(count) for count in range(1, 10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert BACKOFF_MAX_S == 60.0


def test_a_service_that_dies_at_once_is_left_alone_after_ten_restarts_with_one_alert() -> None:
    memory, alerts, repairs, when = MonitorMemory(), [], 0, 0.0
    for _ in range(400):
        decision = decide("here", memory, Observations(services=(dead(),)), at(when))
        memory = decision.memory
        repairs += len(decision.repairs)
        alerts += [one for one in decision.events if isinstance(one, AlertRaised)]
        when += 2.0
    assert (repairs, len(alerts)) == (RESTART_LIMIT, 1)
    for _ in range(40):
        decision = decide("here", memory, Observations(services=(ready(),)), at(when))
        memory = decision.memory
        alerts += [one for one in decision.events if isinstance(one, AlertRaised)]
        when += 2.0
    assert [one.resolved for one in alerts] == [False, True]
    assert memory.services["agent"].restart_count == 0


def test_a_restart_that_somebody_else_prevented_does_not_count() -> None:
    decision = decide("here", MonitorMemory(), Observations(services=(dead(),)), at(0.0))
    memory = not_tried(decision.memory, decision.repairs, at(0.0))
    assert memory.services["agent"].restart_count == 0
    later = decide("here", memory, Observations(services=(dead(),)), at(2.0))
    assert [one.attempt for one in later.repairs] == [1]


def test_that_livekit_is_silent_is_said_once_and_repairs_nothing() -> None:
    memory = MonitorMemory()
    events: list[object] = []
    for number in range(10):
        decision = decide_livekit("here", memory, False, at(number * INTERVAL_S))
        assert decision.repairs == ()
        memory = decision.memory
        events += decision.events
    decision = decide_livekit("here", memory, True, at(11 * INTERVAL_S))
    events += decision.events
    assert [(one.cause, one.ended_at is None) for one in events if isinstance(one, Incident)] == [
        ("livekit-unreachable", True),
        ("livekit-unreachable", False),
    ]


# -- weeks of faults ---------------------------------------------------------------------------------------------------


@dataclass
class SimulatedService:
    """One service as it really is."""

    state: ServiceState = ServiceState.READY
    frozen: bool = False
    wanted: bool = True
    doomed_until: float = 0.0
    """It dies at once when it is started before that."""
    bad_since: float | None = None
    restarts: list[float] = field(default_factory=list)
    well_since: float = 0.0

    @property
    def bad(self) -> bool:
        return self.wanted and (self.frozen or self.state is not ServiceState.READY)


@dataclass
class Simulation:
    """A machine with its monitor: what happens to it, and what may never happen."""

    services: dict[str, SimulatedService] = field(
        default_factory=lambda: {name: SimulatedService() for name in NAMES}
    )
    now: float = 0.0
    memory: MonitorMemory = field(default_factory=MonitorMemory)
    in_hand: dict[str, float] = field(default_factory=dict)
    """Service -> when its repair is over."""
    resumed: dict[str, float] = field(default_factory=dict)
    """Service -> when it was made to go on the last time."""
    locked_until: float = 0.0
    open: dict[str, str] = field(default_factory=dict)
    alerts: set[str] = field(default_factory=set)
    alert_count: int = 0
    fault_count: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    def fault(self, name: str, kind: str) -> None:
        one = self.services[name]
        self.fault_count += 1
        if kind == "kill":
            one.state, one.frozen = ServiceState.STALE, False
        elif kind == "freeze" and one.state is ServiceState.READY:
            one.frozen = True
        elif kind == "hang" and one.state is ServiceState.READY:
            one.state = ServiceState.UNRESPONSIVE
        elif kind == "doom":
            one.doomed_until, one.state = self.now + 600.0, ServiceState.STALE
        elif kind == "stop":
            one.wanted, one.state, one.frozen = False, ServiceState.MISSING, False
        elif kind == "start":
            one.wanted, one.state, one.frozen, one.doomed_until = True, ServiceState.READY, False, 0.0
        elif kind == "lock":
            self.locked_until = self.now + self.chance.uniform(1, 300)
        elif kind == "kill-monitor":
            # Killed after it saved: what it had begun is cut off, what it remembers is read back.
            self.in_hand = {}
            self.memory = msgspec.json.decode(msgspec.json.encode(self.memory), type=MonitorMemory)

    def observe(self) -> Observations:
        wanted = {name for name, one in self.services.items() if one.wanted}
        return Observations(
            services=tuple(
                ServiceObservation(
                    name=name,
                    state=one.state,
                    wanted=one.wanted,
                    needs_wanted=name != "agent" or "livekit" in wanted,
                    needs_met=name != "agent" or self.services["livekit"].state is ServiceState.READY,
                    frozen=one.frozen,
                    in_hand=bool(self.in_hand),
                )
                for name, one in self.services.items()
            ),
            held_by="inv deploy" if self.now < self.locked_until else "",
        )

    def go_on(self, for_s: float) -> None:
        until = self.now + for_s
        while self.now < until:
            self.now += self.check()

    def check(self) -> float:
        for name, over in list(self.in_hand.items()):
            if self.now >= over:
                del self.in_hand[name]
                one = self.services[name]
                one.state = ServiceState.STALE if self.now < one.doomed_until else ServiceState.READY
                one.frozen = False
        for one in self.services.values():
            if one.bad:
                one.bad_since = self.now if one.bad_since is None else one.bad_since
            else:
                one.well_since = self.now if one.bad_since is not None else one.well_since
                one.bad_since = None
        seen = self.observe()
        decision = decide("here", self.memory, seen, at(self.now))
        self.memory = decision.memory
        self.hold_events(decision.events)
        self.hold_repairs(decision.repairs, seen)
        self.hold_notice(seen)
        return INTERVAL_S if decision.look_again_s is None else min(INTERVAL_S, decision.look_again_s)

    def hold_events(self, events: Sequence[object]) -> None:
        for event in events:
            if isinstance(event, Incident) and event.ended_at is None:
                assert event.subject not in self.open, "an incident began within another of the same service"
                self.open[event.subject] = event.incident
            elif isinstance(event, Incident):
                assert self.open.pop(event.subject) == event.incident
            elif isinstance(event, AlertRaised):
                assert event.resolved == (event.subject in self.alerts), "each alert once, then its end"
                self.alerts ^= {event.subject}
                self.alert_count += 1

    def hold_repairs(self, repairs: Sequence[ServiceRepair], seen: Observations) -> None:
        for repair in repairs:
            one = self.services[repair.service]
            assert not self.in_hand, "a restart while another one goes on"
            assert not seen.held_by, "a restart while somebody else holds the lock"
            assert one.wanted, "a restart of what a person stopped"
            assert repair.service != "agent" or self.services["livekit"].wanted
            assert one.bad, "a restart of what is well"
            recent = one.restarts[-RESTART_LIMIT:]
            if recent and self.now - one.well_since < WELL_FOR_S and one.well_since <= recent[-1]:
                assert self.now - recent[-1] >= 1.0, "a restart without backoff"
            one.restarts.append(self.now)
            assert repair.frozen == one.frozen
            if repair.resume:
                assert one.frozen, "only what is frozen can go on"
                assert self.now - self.resumed.get(repair.service, -WELL_FOR_S) >= WELL_FOR_S, "resumed twice"
                self.resumed[repair.service] = self.now
            elif repair.frozen:
                assert repair.service in self.resumed, (
                    "a frozen service was ended, and its calls, without a try"
                )
        for repair in repairs:
            self.in_hand[repair.service] = self.now + self.chance.uniform(0.5, 20.0)

    def hold_notice(self, seen: Observations) -> None:
        if seen.held_by or self.in_hand:
            return
        for name, one in self.services.items():
            if one.bad and one.bad_since is not None and self.now - one.bad_since > 2 * INTERVAL_S:
                recently_locked = self.now - self.locked_until < 2 * INTERVAL_S
                repaired = bool(one.restarts) and self.now - one.restarts[-1] < 2 * INTERVAL_S
                assert name in self.open or recently_locked or repaired, "a fault that nobody noticed"


FAULTS = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(["kill", "freeze", "hang", "doom", "stop", "start", "lock", "kill-monitor"]),
    st.floats(0.0, 3600.0),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(FAULTS, min_size=5, max_size=60))
def test_whatever_happens_for_a_day_nothing_is_repaired_twice_or_forgotten(
    faults: list[tuple[str, str, float]],
) -> None:
    world = Simulation()
    for name, kind, pause_s in faults:
        world.go_on(pause_s)
        world.fault(name, kind)
    for one in world.services.values():
        one.doomed_until = 0.0
    world.go_on(1800.0)
    assert world.alert_count <= 2 * world.fault_count
    for name, one in world.services.items():
        given_up = name in world.alerts
        needs_stopped = name == "agent" and not world.services["livekit"].wanted
        assert not one.bad or given_up or needs_stopped, f"{name} was left {one.state}"
        assert (name in world.open) == one.bad


def test_six_weeks_of_faults_every_hour() -> None:
    world, chance = Simulation(), random.Random(13)
    kinds = ["kill", "freeze", "hang", "kill", "doom", "lock", "kill-monitor"]
    while world.now < 42 * 86_400:
        world.go_on(chance.uniform(0, 3600))
        world.fault(chance.choice(NAMES), chance.choice(kinds))
        if world.alerts:
            for name in world.alerts:
                world.fault(name, "start")
    for one in world.services.values():
        one.doomed_until = 0.0
    world.go_on(1800.0)
    assert not world.open
    assert all(not one.bad for one in world.services.values())
    assert sum(len(one.restarts) for one in world.services.values()) > 600
