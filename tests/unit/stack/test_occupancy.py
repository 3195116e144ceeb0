"""A call is a room with a person in it, and what nobody can say is not "nobody"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from voiceops.errors import CallsInProgressError, CallsUnknownError, CredentialsError
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance, Observed, Stray
from voiceops.stack.occupancy import (
    NO_SERVER,
    CallKnowledge,
    CallRisk,
    OccupiedRooms,
    abandoned,
    calls_of,
    wait_for_people,
    weigh,
)
from voiceops.stack.reconcile import Action, UnnamedCall, Verb

UNKNOWN = OccupiedRooms(knowledge=CallKnowledge.UNKNOWN, cause=CredentialsError("the API key is wrong"))


def agent(*rooms: str, calls: int | None = -1, launch: str = "a", **changes: Any) -> Instance:
    values: dict[str, Any] = {
        "service": "agent",
        "role": Role.AGENT,
        "launch": launch,
        "pid": 1,
        "digest": "d",
        "state": ServiceState.READY,
        "rooms": rooms,
        "calls": len(rooms) if calls == -1 else calls,
    }
    return Instance(**values | changes)


def mute(launch: str = "mute") -> Instance:
    return agent(calls=None, launch=launch, state=ServiceState.UNRESPONSIVE)


def livekit(**changes: Any) -> Instance:
    return agent(service="livekit", role=Role.SERVER, launch="livekit", **changes)


def held(*rooms: str, served: Sequence[str] = ()) -> OccupiedRooms:
    return OccupiedRooms(rooms=frozenset(rooms), served=frozenset(served))


class Server:
    """Answers the same to everybody, and counts."""

    def __init__(self, *answers: OccupiedRooms) -> None:
        self.answers = list(answers)
        self.asked = 0

    def occupied(self, servers: Sequence[Instance]) -> OccupiedRooms:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def hang_up(self, rooms: Sequence[str], servers: Sequence[Instance]) -> None:
        raise AssertionError("nobody asked for it")


def weighed(answer: OccupiedRooms, *ended: Instance, others: Sequence[Instance] = ()) -> CallRisk:
    actions = [Action(service=one.service, verb=Verb.STOP, extra=(one,)) for one in ended]
    observed: dict[str, Observed] = {}
    for one in (*ended, *others):
        known = observed.get(one.service, Observed()).instances
        observed[one.service] = Observed(instances=(*known, one))
    return weigh(actions, observed, Server(answer))


def test_a_job_whose_caller_has_left_is_no_call() -> None:
    assert calls_of(["left", "talks"], held("talks"), whole_server=False) == ("talks",)


def test_a_caller_who_waits_for_an_agent_is_lost_with_the_server() -> None:
    assert calls_of([], held("waits"), whole_server=True) == ("waits",)
    assert calls_of([], held("waits"), whole_server=False) == ()


def test_where_no_server_listens_the_agents_word_is_left() -> None:
    assert calls_of(["r", "voiceops-call-1"], NO_SERVER, whole_server=True) == ("r",)
    assert abandoned([agent("r")], NO_SERVER) == frozenset()


def test_what_the_agent_could_not_name_counts_as_a_call() -> None:
    unnamed = UnnamedCall("(call 1 of pid 1)")
    assert calls_of([unnamed], held(), whole_server=False) == (unnamed,)
    assert abandoned([agent(calls=1)], held()) == frozenset()


def test_a_room_whose_name_looks_like_an_unnamed_call_counts_only_with_a_person_in_it() -> None:
    assert calls_of(["(call 1 of pid 1)"], held(), whole_server=False) == ()


def test_only_agents_whose_rooms_are_all_left_need_not_be_waited_for() -> None:
    instances = [agent("left", launch="a"), agent("left", "talks", launch="b"), agent(launch="c")]
    assert abandoned(instances, held("talks")) == {"a"}


def test_a_server_that_does_not_say_needs_a_yes_before_it_ends() -> None:
    risk = weighed(UNKNOWN, livekit())
    assert risk.exists
    with pytest.raises(CallsUnknownError, match="the API key is wrong") as refused:
        risk.refuse("stop would drop them")
    assert refused.value.data["rooms"] == []
    assert refused.value.data["caused_by"]["type"] == "CredentialsError"
    assert "--yes" in (refused.value.hint or "")


def test_a_server_that_does_not_say_is_no_reason_to_spare_an_agent_that_has_no_job() -> None:
    assert not weighed(UNKNOWN, agent()).exists


def test_jobs_of_an_agent_count_as_calls_while_the_server_does_not_say() -> None:
    assert weighed(UNKNOWN, agent("voiceops-call-1")).rooms == ("voiceops-call-1",)


def test_a_refused_connection_says_nothing_of_a_server_whose_process_lives() -> None:
    assert weighed(NO_SERVER, livekit()).unknown is not None
    assert not weighed(NO_SERVER, livekit(state=ServiceState.STARTING)).exists
    assert not weighed(NO_SERVER, livekit(pid=0, state=ServiceState.UNRESPONSIVE)).exists


def test_an_agent_that_does_not_answer_may_have_each_call_that_no_other_agent_has() -> None:
    answer = held("mine", "others", "waits", served=["mine", "others"])
    assert weighed(answer, mute(), others=[agent("others")]).rooms == ("mine",)
    assert not weighed(held("waits"), mute()).exists
    assert weighed(UNKNOWN, mute()).unknown is not None
    assert not weighed(NO_SERVER, mute()).exists


def test_an_agent_that_is_replaced_by_overlap_is_not_asked_about() -> None:
    server = Server(UNKNOWN)
    action = Action(service="agent", verb=Verb.OVERLAP, instance=mute())
    assert not weigh([action], {"agent": Observed(instances=(mute(),))}, server).exists
    assert server.asked == 0


@pytest.mark.parametrize(
    ("role", "calls", "unknown"), [(Role.SERVER, 0, True), (Role.AGENT, None, True), (Role.AGENT, 0, False)]
)
def test_a_stray_may_carry_calls_as_well(role: Role, calls: int | None, unknown: bool) -> None:
    stray = Stray(
        service="x", role=role, pid=7, start="1", command="c", age_s=1, reason="in the way", calls=calls
    )
    action = Action(service="x", verb=Verb.START, strays=(stray,))
    assert (weigh([action], {}, Server(UNKNOWN)).unknown is not None) is unknown
    refused = Action(service="x", verb=Verb.REFUSE, strays=(stray,))
    assert not weigh([refused], {}, Server(UNKNOWN)).exists


def test_a_server_drains_until_its_callers_have_left() -> None:
    told: list[str] = []
    server = Server(UNKNOWN, held("r"), held())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("voiceops.stack.occupancy._POLL_S", 0.0)
        wait_for_people(server, (), 5.0, lambda service, state, words: told.append(words))
    assert told == ["an unknown number in progress, up to 5 s", "1 in progress, up to 5 s"]


def test_callers_who_stay_keep_the_server_and_are_named() -> None:
    with pytest.raises(CallsInProgressError) as refused:
        wait_for_people(Server(held("r")), (), 0.0, lambda service, state, words: None)
    assert refused.value.data["rooms"] == ["r"]
    with pytest.raises(CallsUnknownError):
        wait_for_people(Server(UNKNOWN), (), 0.0, lambda service, state, words: None)
