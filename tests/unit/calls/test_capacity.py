"""Which number of calls is tried next, what counts as carried, what gave in first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from voiceops.calls.capacity import (
    CapacityTrial,
    HostSample,
    first_to_give_in,
    most_carried,
    next_calls,
    problem_of,
    settings_for,
)
from voiceops.calls.capacity_chart import draw_capacity
from voiceops.calls.chart import HEIGHT, WIDTH, ChartDot, ChartText
from voiceops.calls.stats import CallReport, weigh
from voiceops.model.calls import CallFailure, CallPlan, CallResult, FailureKind

GOOD = CallResult(id=0, ok=True, room="r", identity="i", audio_s=0.5, max_gap_s=0.02, loss=0.0)
UNANSWERED = msgspec.structs.replace(
    GOOD, ok=False, audio_s=None, failure=CallFailure(kind=FailureKind.NO_AGENT, detail="nobody came")
)


def report(*results: CallResult, **load: Any) -> CallReport:
    weighed = weigh(
        **{"processes": 1, "cpu_s": 0.0, "wall_s": 1.0, "cores": 1, "machine": (), "lags": (), **load}
    )
    return CallReport(plan=CallPlan(), results=results, load=weighed, duration_s=1.0)


def step(calls: int, problem: str = "", samples: Sequence[HostSample] = (), **load: Any) -> CapacityTrial:
    results = [GOOD] * (calls - bool(problem)) + [UNANSWERED] * bool(problem)
    return CapacityTrial(
        calls=calls, tries=1, problem=problem, report=report(*results, **load), samples=tuple(samples)
    )


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 5, 6, 7, 11, 16, 19])
def test_the_search_ends_at_the_capacity_and_tries_no_number_twice(capacity: int) -> None:
    steps: list[CapacityTrial] = []
    while (calls := next_calls(steps, 20)) is not None:
        assert calls not in [one.calls for one in steps]
        steps.append(step(calls, "" if calls <= capacity else "too many"))
    assert most_carried(steps) == capacity
    assert len(steps) <= 9


def test_the_search_goes_no_further_than_it_may() -> None:
    steps = [step(1), step(2), step(4)]
    assert next_calls(steps, 6) == 6
    assert next_calls([*steps, step(6)], 6) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"audio_s": 2.0}, "p95 answer 2.00 s"),
        ({"max_gap_s": 0.101}, "a gap of 101 ms"),
        ({"loss": 0.01}, "1.00% of a call's packets lost"),
    ],
)
def test_calls_are_carried_within_all_of_the_limits(changes: dict[str, float], problem: str) -> None:
    worst = msgspec.structs.replace(GOOD, **changes)
    assert problem_of(report(GOOD, worst, worst), 3) == problem


def test_a_call_that_is_not_answered_is_one_too_many() -> None:
    assert problem_of(report(GOOD, UNANSWERED), 2).startswith("1 call of 2 not answered")
    assert problem_of(report(GOOD), 2).startswith("1 call of 2 not answered")


@pytest.mark.parametrize(
    ("sample", "gave_in"),
    [
        (HostSample(cpu_share=0.95), "cpu"),
        (HostSample(cpu_share=0.5, over_load=True, load=0.8), "load_limit"),
        (HostSample(cpu_share=0.95, at_max_jobs=True), "max_concurrent_jobs"),
        (HostSample(cpu_share=0.5), "unknown"),
    ],
)
def test_what_gave_in_first_is_told_by_the_first_number_that_was_too_much(
    sample: HostSample, gave_in: str
) -> None:
    steps = [step(4, "too many", [HostSample(), sample]), step(8, "too many", [HostSample(cpu_share=1.0)])]
    assert first_to_give_in([step(3), *steps], callers_here=False)[0] == gave_in


def test_callers_on_another_machine_that_were_the_bottleneck_are_named() -> None:
    late = step(4, "a gap of 200 ms", [HostSample(cpu_share=0.3)], lags=[0.2])
    assert first_to_give_in([late], callers_here=False)[0] == "callers"
    assert first_to_give_in([late], callers_here=True)[0] == "unknown"


def test_the_settings_take_as_many_calls_as_were_carried() -> None:
    steps = [step(4, samples=[HostSample(load=0.5)]), step(5, "p95 answer 3 s", [HostSample(load=0.8)])]
    assert settings_for(steps, "cpu") == {"max_concurrent_jobs": 4, "load_limit": 0.65}
    assert settings_for(steps, "callers") == {"max_concurrent_jobs": 4}
    assert settings_for([step(1, "silence")], "cpu") == {}
    assert settings_for(steps[:1], "") == {}


def test_the_picture_has_each_number_in_each_row_and_crosses_what_was_too_much() -> None:
    steps = [step(4, "silence", [HostSample(cpu_share=0.9)]), step(1), step(2)]
    shapes = draw_capacity(steps, "cpu")
    dots = [one for one in shapes if isinstance(one, ChartDot)]
    assert [one.cross for one in dots] == [False, False, True] * 3
    assert all(0 <= one.x <= WIDTH and 0 <= one.y <= HEIGHT for one in dots)
    assert any(isinstance(one, ChartText) and one.text == "2 calls at once" for one in shapes)
