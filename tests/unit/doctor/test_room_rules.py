"""Findings about the agents in a room: dead, silent, alone, doubled."""

from __future__ import annotations

import pytest

from tests.unit.doctor.scenes import (
    NOW,
    agent,
    assigned,
    caller,
    room,
    scene,
    server_line,
    worker,
    worker_line,
)
from tests.unit.doctor.test_rules import CASES
from voiceops.doctor.diagnose import diagnose
from voiceops.doctor.facts import LogEvent, RoomFact, StackFacts
from voiceops.model.rooms import Participant, ParticipantKind
from voiceops.model.states import ServiceState


def test_a_dead_agent_that_is_still_listed_is_removed_before_the_new_dispatch() -> None:
    gone = worker(state=ServiceState.STALE, registered=None, answers=False, pid=None)
    (finding,) = diagnose(scene(room(caller(), agent()), workers=(gone,)))
    assert [fix.action for fix in finding.fixes] == ["start", "remove", "dispatch"]


def test_an_agent_that_may_still_join_on_a_busy_machine_is_neither_replaced_nor_passed_over() -> None:
    (finding,) = diagnose(CASES["slow-join"])
    assert (finding.severity, [fix.action for fix in finding.fixes]) == ("warning", [""])
    assert finding.fix == "inv why --room r"


def test_an_inert_agent_is_removed_before_another_is_dispatched() -> None:
    (finding,) = diagnose(CASES["inert-agent"])
    assert [fix.action for fix in finding.fixes] == ["remove", "dispatch"]


def test_two_agents_in_a_room_that_people_have_left_disturb_nobody() -> None:
    alone = scene(room(agent(50), agent(40, job="AJ_2")), workers=(worker(rooms=("r",), calls=2),))
    assert "duplicate-agents" not in {finding.rule for finding in diagnose(alone)}


def test_of_duplicate_agents_the_one_that_serves_longest_stays() -> None:
    (finding,) = diagnose(CASES["duplicate-agents"])
    assert [fix.identity for fix in finding.fixes] == ["agent-AJ_2"]


def silent(*, events: tuple[LogEvent, ...] = (), others: tuple[RoomFact, ...] = ()) -> StackFacts:
    """A caller beside an agent without a track or a state, as one is that only listens."""
    return scene(
        room(caller(), agent(state="")),
        *others,
        events=(assigned(), *events),
        workers=(worker(rooms=("r",), calls=1),),
    )


def test_an_agent_that_may_only_listen_is_a_question_and_no_fix_touches_it() -> None:
    (finding,) = diagnose(silent())
    assert (finding.rule, finding.severity) == ("silent-agent", "info")
    assert [fix.action for fix in finding.fixes] == [""]


@pytest.mark.parametrize(
    "facts",
    [
        silent(others=(room(caller(), agent(job="AJ_2"), name="other"),)),
        silent(events=(worker_line("call connected", 50, level="INFO", call_id="AJ_1", pii={"room": "r"}),)),
        silent(events=(worker_line("killing process", 1, room="r"),)),
    ],
    ids=["ready in another room", "guarded and not ready", "killed for it"],
)
def test_an_agent_that_would_say_when_it_is_ready_and_did_not_hangs(facts: StackFacts) -> None:
    (finding,) = diagnose(facts)
    assert (finding.rule, finding.severity) == ("entrypoint-hung", "error")


@pytest.mark.parametrize(
    "facts",
    [
        scene(room(agent(59), age_s=60), events=(assigned(),)),
        scene(room(agent(500), age_s=501, empty_timeout_s=3600), events=(assigned(),)),
        scene(room(agent(500, state=""), age_s=501), events=(assigned(),)),
        scene(
            room(agent(500), age_s=501),
            events=(assigned(), server_line("participant closing", 3, room="r", kind="STANDARD")),
        ),
        scene(
            room(
                agent(500),
                Participant(identity="EG_1", kind=ParticipantKind.EGRESS, joined_at=NOW),
                age_s=501,
            ),
            events=(assigned(),),
        ),
    ],
    ids=[
        "came a moment ago",
        "a room that was made to wait",
        "not ready",
        "its caller has just left",
        "recorded",
    ],
)
def test_an_agent_alone_for_a_reason_is_no_finding(facts: StackFacts) -> None:
    assert diagnose(facts) == ()


def test_without_the_servers_log_an_agent_alone_is_only_told() -> None:
    (finding,) = diagnose(scene(room(agent(500), age_s=501)))
    assert (finding.rule, finding.severity) == ("never-joined", "info")
