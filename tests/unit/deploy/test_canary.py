"""A release that takes a share of new calls: what is counted, and when it goes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from voiceops.deploy.canary import (
    ANSWER_S,
    CanaryOptions,
    CanaryWatch,
    FollowedRun,
    canary_options,
    verdict,
)
from voiceops.errors import ServiceError, UsageError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance, Observed

AGENT = Declared(name="agent", kind="agent", role=Role.AGENT, cwd=Path("/"), release="r2", digest="r2")
OLD = Instance(
    service="agent",
    launch="agent@r1",
    pid=1,
    digest="r1",
    state=ServiceState.READY,
    release="r1",
    taken_count=7,
)
NEW = replace(OLD, launch="agent@r2", pid=2, digest="r2", release="r2", share=0.1, taken_count=1)


@pytest.mark.parametrize(
    ("share", "for_", "options"),
    [
        ("10%", "10m", CanaryOptions(share=0.1, for_s=600.0)),
        ("2.5%", "90", CanaryOptions(share=0.025, for_s=90.0)),
        ("50%", "", CanaryOptions(share=0.5)),
        ("2.55%", "", CanaryOptions(share=0.0255)),
        ("", "", None),
    ],
)
def test_the_flags_say_share_and_time(share: str, for_: str, options: CanaryOptions | None) -> None:
    assert canary_options(share, for_) == options


@pytest.mark.parametrize(
    ("share", "for_", "told"),
    [
        ("0%", "", "no share"),
        ("51%", "", "no share"),
        ("0.1", "", "no share"),
        ("-5%", "", "no share"),
        ("10%", "0s", "no time"),
        ("10%", "25h", "no time"),
        ("10%", "soon", "no time"),
        ("", "10m", "there is none"),
    ],
)
def test_flags_that_make_no_sense_are_refused_with_a_hint(share: str, for_: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        canary_options(share, for_)
    assert refused.value.hint


def followed(calls: int, failures: int) -> FollowedRun:
    return FollowedRun("r", calls=calls, job_failures=failures)


@pytest.mark.parametrize(
    ("new", "old", "over", "worse"),
    [
        pytest.param((5, 0), (40, 0), True, False, id="no failure"),
        pytest.param((5, 1), (40, 0), False, False, id="one alone, so far"),
        pytest.param((5, 1), (40, 0), True, True, id="one alone, at the end"),
        pytest.param((5, 2), (40, 0), False, True, id="two"),
        pytest.param((10, 3), (90, 27), True, False, id="as many as the old one"),
        pytest.param((40, 2), (400, 0), True, False, id="within the margin"),
        pytest.param((0, 0), (0, 0), True, False, id="nobody called"),
    ],
)
def test_it_is_worse_only_beyond_doubt(
    new: tuple[int, int], old: tuple[int, int], over: bool, worse: bool
) -> None:
    assert bool(verdict(followed(*new), followed(*old), over=over)) is worse


def test_calls_and_rooms_of_before_do_not_count() -> None:
    run = FollowedRun("r1")
    run.note(replace(OLD, rooms=("a",), taken=("proof", "a")))
    run.note(replace(OLD, rooms=("a", "b"), taken=("proof", "a", "b", "c"), taken_count=9))
    assert (run.calls, set(run.open)) == (2, {"b", "c"})
    run.note(replace(OLD, taken=("d",), taken_count=1))
    assert run.calls == 3, "its counter starts anew with its process"


def test_of_an_agent_that_does_not_count_the_rooms_that_are_seen_count() -> None:
    run = FollowedRun("r1")
    run.note(replace(OLD, taken_count=None))
    run.note(replace(OLD, taken_count=None, rooms=("b",)))
    assert run.calls == 1


def test_a_caller_without_an_agent_has_failed_after_a_while_and_one_who_left_has_not() -> None:
    run = FollowedRun("r2")
    run.note(NEW)
    run.note(replace(NEW, taken=("good", "bad", "gone", "lost"), taken_count=5))
    run.judge_rooms({"good": True, "bad": False, "lost": True}, 0.0)
    run.judge_rooms({"good": True, "bad": False, "lost": False}, 1.0)
    run.judge_rooms({"good": True, "bad": False, "lost": False}, ANSWER_S)
    assert run.unanswered == {"bad"}
    run.judge_rooms({"good": True, "lost": False}, 1.0 + ANSWER_S)
    assert (run.unanswered, run.failures) == ({"bad", "lost"}, 2)
    assert run.as_json() == {"release": "r2", "call_count": 4, "answered_count": 1, "failed_count": 2}


class Watched:
    """A canary whose looks are given; the time passes in its pauses."""

    def __init__(self, looks: Sequence[tuple[Instance | None, Instance | None]]) -> None:
        self._looks = list(looks)
        self._now = 0.0
        self.said: list[str] = []
        self.watch = CanaryWatch(
            CanaryOptions(share=0.1, for_s=40.0),
            host="web1",
            read_log=lambda service: (
                '  File "/opt/p/agent.py", line 3, in entry',
                "    f()",
                "ValueError: no customer",
            ),
            say=self.said.append,
            clock=lambda: self._now,
            pause=self._pause,
        )

    def _pause(self, seconds: float) -> None:
        self._now += seconds

    def _observe(self) -> Observed:
        seen = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        return Observed(instances=tuple(one for one in seen if one is not None))

    def run(self) -> Any:
        observe: Callable[[], Observed] = self._observe
        self.watch._watch(AGENT, NEW, observe, lambda: None)
        return self.watch.results["agent"]


def test_its_share_is_measured_and_told() -> None:
    watched = Watched([(NEW, OLD), (replace(NEW, taken_count=2), replace(OLD, taken_count=16))])
    result = watched.run()
    assert (result.measured_share, result.as_json()["new"]["call_count"]) == (0.1, 1)
    assert "it took 1 of 10 new calls in 40 s (10%, asked for 10%)" in watched.said[-1]


def test_failed_jobs_end_it_before_its_time_and_the_cause_is_in_the_error() -> None:
    bad = replace(NEW, taken_count=5, failed_count=2)
    with pytest.raises(ServiceError, match=r"2 of its 4 calls failed.*no customer") as failed:
        Watched([(NEW, OLD), (bad, replace(OLD, taken_count=30))]).run()
    assert failed.value.data["service"] == "agent"
    assert failed.value.data["canary"]["took_s"] == 2.0


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (None, "it has ended"),
        (replace(NEW, restart_count=1), "it has ended"),
        (replace(NEW, calls=None), "has not answered its health check"),
    ],
)
def test_one_that_ends_or_blocks_goes_back_without_a_call(seen: Instance | None, told: str) -> None:
    with pytest.raises(ServiceError, match=told):
        Watched([(NEW, OLD), (seen, OLD)]).run()


def test_where_the_old_one_is_gone_for_good_the_new_one_takes_all_calls() -> None:
    assert Watched([(NEW, OLD), (NEW, None)]).run().took_s == 20.0
