"""A call is a room with a person in it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from voiceops.errors import CallsInProgressError
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance
from voiceops.stack.occupancy import calls_of, forsaken, wait_for_people


def agent(*rooms: str, calls: int | None = None, launch: str = "a") -> Instance:
    return Instance(
        service="agent",
        kind="agent",
        launch=launch,
        pid=1,
        digest="d",
        state=ServiceState.READY,
        rooms=rooms,
        calls=len(rooms) if calls is None else calls,
    )


def test_a_job_whose_caller_has_left_is_no_call() -> None:
    assert calls_of(["left", "talks"], frozenset({"talks"}), whole_server=False) == ("talks",)


def test_a_caller_who_waits_for_an_agent_is_lost_with_the_server() -> None:
    assert calls_of([], frozenset({"waits"}), whole_server=True) == ("waits",)
    assert calls_of([], frozenset({"waits"}), whole_server=False) == ()


def test_a_server_that_does_not_say_leaves_the_agents_word() -> None:
    assert calls_of(["r"], None, whole_server=True) == ("r",)
    assert forsaken([agent("r")], None) == frozenset()


def test_the_job_of_a_synthetic_call_stops_nobody() -> None:
    assert calls_of(["voiceops-call-1", "r"], None, whole_server=True) == ("r",)


def test_what_the_agent_could_not_name_counts_as_a_call() -> None:
    assert calls_of(["(a call of pid 1)"], frozenset(), whole_server=False) == ("(a call of pid 1)",)
    assert forsaken([agent(calls=1)], frozenset()) == frozenset()


def test_only_agents_whose_rooms_are_all_left_need_not_be_waited_for() -> None:
    instances = [agent("left", launch="a"), agent("left", "talks", launch="b"), agent(launch="c")]
    assert forsaken(instances, frozenset({"talks"})) == {"a"}


class Callers:
    """A server whose callers leave one look after the other."""

    def __init__(self, *looks: set[str]) -> None:
        self.looks = list(looks)

    def occupied(self) -> frozenset[str]:
        return frozenset(self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])

    def hang_up(self, rooms: Sequence[str]) -> None:
        raise AssertionError("nobody asked for it")


def test_a_server_drains_until_its_callers_have_left() -> None:
    told: list[str] = []
    wait_for_people(Callers({"r"}, set()), 5.0, lambda service, state, words: told.append(words))
    assert told == ["1 in progress, up to 5 s"]


def test_callers_who_stay_keep_the_server_and_are_named() -> None:
    with pytest.raises(CallsInProgressError) as refused:
        wait_for_people(Callers({"r"}), 0.0, lambda service, state, words: None)
    assert refused.value.data["rooms"] == ["r"]
