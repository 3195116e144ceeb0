"""Which rooms go, and why: each rule without a server or a clock."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceops.model.protocol import READY_ATTRIBUTE
from voiceops.model.rooms import Dispatch, Participant, ParticipantKind, ParticipantState, Room
from voiceops.model.settings import RoomsSettings
from voiceops.rooms.rules import Observation, RoomDecision, RoomSnapshot, Rule, judge, observe, plan_cleanup

NOW = 1_000_000.0
SETTINGS = RoomsSettings(stale_after_s=300, stuck_agent_after_s=600, keep=["vip-*"])


def room(name: str = "r", *, age_s: float = 10_000, **fields: Any) -> Room:
    return Room(name=name, sid=f"RM_{name}", created_at=NOW - age_s, departure_timeout_s=20, **fields)


def person(identity: str = "caller", *, joined_s: float = 60, **fields: Any) -> Participant:
    return Participant(identity=identity, sid=f"PA_{identity}", joined_at=NOW - joined_s, **fields)


def agent(identity: str = "agent-1", **fields: Any) -> Participant:
    return person(identity, kind=ParticipantKind.AGENT, **fields)


def verdict(
    *participants: Participant, seen: Observation | None = None, served: bool = True, **fields: Any
) -> RoomDecision:
    snapshot = RoomSnapshot(room=room(**fields), participants=participants, served=served)
    return judge(snapshot, seen or Observation(), SETTINGS, NOW)


def alone(seconds: float) -> Observation:
    return Observation(alone_since=NOW - seconds)


def test_an_empty_old_room_goes() -> None:
    assert (verdict().delete, verdict().rule) == (True, Rule.EMPTY)


def test_an_empty_young_room_stays() -> None:
    assert (verdict(age_s=299).delete, verdict(age_s=299).rule) == (False, Rule.YOUNG)


def test_a_room_with_a_person_stays_however_old_it_is() -> None:
    assert verdict(person(joined_s=90_000), age_s=100_000).rule is Rule.PERSON


@pytest.mark.parametrize("state", [ParticipantState.JOINING, ParticipantState.JOINED])
def test_a_person_on_the_way_in_counts(state: ParticipantState) -> None:
    assert verdict(person(joined_s=30, state=state)).rule is Rule.PERSON


@pytest.mark.parametrize(
    "kind",
    [
        ParticipantKind.STANDARD,
        ParticipantKind.SIP,
        ParticipantKind.INGRESS,
        ParticipantKind.BRIDGE,
        ParticipantKind.CONNECTOR,
        ParticipantKind.UNKNOWN,
    ],
)
def test_every_kind_that_may_be_a_caller_is_a_person(kind: ParticipantKind) -> None:
    assert verdict(person(kind=kind)).rule is Rule.PERSON


def test_an_empty_room_that_the_server_counts_somebody_in_waits_for_proof() -> None:
    first = verdict(num_participants=1)
    assert (first.delete, first.rule, first.ripe_in_s) == (False, Rule.UNCONFIRMED, 6.0)
    assert verdict(num_participants=1, seen=alone(301)).rule is Rule.EMPTY


def test_agents_alone_are_not_judged_at_first_sight() -> None:
    first = verdict(agent(joined_s=700))
    assert (first.delete, first.rule, first.ripe_in_s) == (False, Rule.UNCONFIRMED, 22.0)


def test_agents_alone_longer_than_a_caller_needs_to_come_back_go() -> None:
    assert verdict(agent(joined_s=700), seen=alone(22)).rule is Rule.AGENTS_ALONE


def test_agents_that_joined_a_while_ago_stay() -> None:
    assert verdict(agent(joined_s=599), seen=alone(500)).rule is Rule.YOUNG


def test_where_a_room_is_made_to_wait_only_the_whole_time_alone_is_proof() -> None:
    snapshot = RoomSnapshot(
        room=Room(name="r", sid="RM_r", created_at=0.0, departure_timeout_s=3600),
        participants=(agent(joined_s=5000),),
    )
    assert judge(snapshot, alone(599), SETTINGS, NOW).rule is Rule.UNCONFIRMED
    assert judge(snapshot, alone(600), SETTINGS, NOW).rule is Rule.AGENTS_ALONE


def test_idle_monitors_and_bots_don_t_hold_a_room() -> None:
    monitors = (person("monitor-7", joined_s=301), person("bot-x", joined_s=400))
    assert verdict(*monitors, seen=alone(30)).rule is Rule.IDLE_ONLY
    assert verdict(*monitors, person("caller"), seen=alone(30)).rule is Rule.PERSON


def test_joins_that_never_became_active_hold_no_room() -> None:
    stuck = person(joined_s=91, state=ParticipantState.JOINING)
    assert verdict(stuck).rule is Rule.STUCK_JOIN


def test_a_stuck_join_beside_a_person_is_removed_and_the_room_stays() -> None:
    stuck = person("stuck", joined_s=91, state=ParticipantState.JOINED)
    one = verdict(stuck, person())
    assert not one.delete
    assert [(removal.participant.identity, removal.rule) for removal in one.removals] == [
        ("stuck", Rule.STUCK_JOIN)
    ]


def test_an_agent_that_says_it_has_ended_is_removed_from_beside_a_person() -> None:
    inert = agent("old", attributes={READY_ATTRIBUTE: "0", "lk.agent.state": "listening"})
    unknown = agent("listening", attributes={"lk.agent.state": "listening"})
    one = verdict(inert, unknown, person())
    assert [(removal.participant.identity, removal.rule) for removal in one.removals] == [
        ("old", Rule.INERT_AGENT)
    ]


def test_a_room_of_a_dead_node_goes_only_after_its_callers_could_return() -> None:
    first = verdict(person(), served=False)
    assert (first.delete, first.rule, first.ripe_in_s) == (False, Rule.UNCONFIRMED, 20.0)
    seen = Observation(unserved_since=NOW - 20)
    assert verdict(person(), served=False, seen=seen).rule is Rule.ORPHAN
    assert verdict(person(), served=True, seen=seen).rule is Rule.PERSON


def test_keep_patterns_win_even_over_force() -> None:
    snapshot = RoomSnapshot(room=room("vip-1"))
    assert judge(snapshot, Observation(), SETTINGS, NOW, force=True).rule is Rule.PROTECTED


def test_force_deletes_a_room_with_a_person() -> None:
    snapshot = RoomSnapshot(room=room(), participants=(person(),))
    assert judge(snapshot, Observation(), SETTINGS, NOW, force=True).rule is Rule.FORCED


def test_observations_begin_once_and_end_with_a_person() -> None:
    unattended = [RoomSnapshot(room=room(), participants=(agent(),))]
    first = observe(unattended, {}, SETTINGS, NOW)
    later = observe(unattended, first, SETTINGS, NOW + 50)
    assert later == {"RM_r": Observation(alone_since=NOW)}
    attended = [RoomSnapshot(room=room(), participants=(agent(), person()))]
    assert observe(attended, later, SETTINGS, NOW + 60) == {}


def test_a_clock_that_was_set_back_makes_no_observation_older() -> None:
    before = {"RM_r": Observation(alone_since=NOW + 5000)}
    snapshots = [RoomSnapshot(room=room(), participants=(agent(),))]
    assert observe(snapshots, before, SETTINGS, NOW) == {"RM_r": Observation(alone_since=NOW)}


participants = st.builds(
    Participant,
    identity=st.sampled_from(["caller", "monitor-1", "bot-2", "agent-3"]),
    kind=st.sampled_from(ParticipantKind),
    state=st.sampled_from(ParticipantState),
    joined_at=st.floats(NOW - 1e5, NOW),
    attributes=st.just({}) | st.just({READY_ATTRIBUTE: "0"}),
)
snapshots = st.builds(
    RoomSnapshot,
    room=st.builds(
        Room,
        name=st.sampled_from(["r", "vip-1"]),
        created_at=st.floats(NOW - 1e5, NOW),
        departure_timeout_s=st.integers(0, 4000),
        num_participants=st.integers(0, 2),
    ),
    participants=st.lists(participants, max_size=4).map(tuple),
)
observations = st.builds(Observation, alone_since=st.none() | st.floats(NOW - 1e5, NOW + 10))


@given(snapshot=snapshots, seen=observations)
def test_no_room_with_a_person_who_is_in_or_on_the_way_ever_goes(
    snapshot: RoomSnapshot, seen: Observation
) -> None:
    one = judge(snapshot, seen, SETTINGS, NOW)
    people = [
        participant
        for participant in snapshot.participants
        if participant.kind not in (ParticipantKind.AGENT, ParticipantKind.EGRESS)
        and not participant.identity.startswith(("monitor-", "bot-"))
        and (
            participant.state is ParticipantState.ACTIVE
            or (participant.state is not ParticipantState.DISCONNECTED and participant.joined_at > NOW - 60)
        )
    ]
    assert not (one.delete and (people or snapshot.room.name == "vip-1"))
    assert one.reason


@given(st.lists(snapshots, max_size=5))
def test_a_plan_has_every_room_once(some: list[RoomSnapshot]) -> None:
    plan = plan_cleanup(some, {}, SETTINGS, NOW)
    assert len(plan.delete) + len(plan.keep) == len(some)


def ready(identity: str = "agent-1", **fields: Any) -> Participant:
    return agent(identity, attributes={READY_ATTRIBUTE: "1"}, **fields)


def test_a_ready_agent_whom_nobody_joined_goes_after_a_minute() -> None:
    gone = verdict(ready(joined_s=61), seen=alone(23), age_s=62)
    assert (gone.delete, gone.rule) == (True, Rule.NEVER_JOINED)
    two = verdict(ready(joined_s=61), ready("agent-2", joined_s=61), seen=alone(23), age_s=62)
    assert (two.delete, two.rule) == (True, Rule.NEVER_JOINED)


def test_a_ready_agent_gets_a_minute_and_a_second_look() -> None:
    assert verdict(ready(joined_s=59), seen=alone(50), age_s=60).rule is Rule.YOUNG
    first = verdict(ready(joined_s=100), age_s=101)
    assert (first.rule, first.ripe_in_s) == (Rule.UNCONFIRMED, 22.0)


@pytest.mark.parametrize(
    "others",
    [
        (person("recorder", kind=ParticipantKind.EGRESS),),
        (person("monitor-1"),),
        (agent("agent-2", attributes={READY_ATTRIBUTE: "1", "lk.agent.name": "other"}),),
        (agent("agent-2"),),
    ],
    ids=["recorder", "monitor", "agent-of-another-name", "agent-that-is-not-ready"],
)
def test_an_agent_in_company_is_stuck_only_after_its_whole_time(others: tuple[Participant, ...]) -> None:
    assert not verdict(ready(joined_s=500), *others, seen=alone(500), age_s=501).delete


def test_a_room_that_was_made_to_wait_keeps_its_agent() -> None:
    assert not verdict(ready(joined_s=500), seen=alone(500), age_s=501, empty_timeout_s=3600).delete


def test_an_agent_that_was_asked_for_just_now_waits_for_a_caller() -> None:
    asked = Dispatch(id="AD_1", room="r", created_at=NOW - 10)
    snapshot = RoomSnapshot(room=room(age_s=501), participants=(ready(joined_s=500),), dispatches=(asked,))
    assert not judge(snapshot, alone(500), SETTINGS, NOW).delete
    before = msgspec.structs.replace(
        snapshot, dispatches=(msgspec.structs.replace(asked, created_at=NOW - 21),)
    )
    assert judge(before, alone(500), SETTINGS, NOW).delete
