"""Which number of calls is tried next, what counts as carried, what gave in first."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from voiceops.calls.capacity import (
    CapacityTrial,
    HostSample,
    first_to_give_in,
    judged,
    most_carried,
    next_calls,
    problem_of,
    settings_for,
)
from voiceops.calls.capacity_chart import draw_capacity
from voiceops.calls.capacity_page import capacity_page
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
        calls=calls, problem=problem, report=report(*results, **load), samples=tuple(samples)
    )


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 5, 6, 7, 11, 16, 19])
def test_the_search_ends_at_the_capacity_and_tries_only_its_ends_twice(capacity: int) -> None:
    tries = searched(lambda calls: calls <= capacity)
    steps = judged(tries)
    assert most_carried(steps) == capacity
    assert [one.calls for one in steps if one.tries > 1] == [one for one in (capacity, capacity + 1) if one]
    assert all(one.tries <= 3 - one.carried for one in steps)
    assert len(tries) <= 12


def searched(carries: Callable[[int], bool]) -> list[CapacityTrial]:
    tries: list[CapacityTrial] = []
    while (calls := next_calls(tries, 20)) is not None:
        tries.append(step(calls, "" if carries(calls) else "too many"))
    return tries


def test_a_moment_of_other_work_at_a_small_number_does_not_end_the_search_there() -> None:
    moments = iter([True, False, False])  # the second and third try fail, whatever they are
    tries = searched(lambda calls: next(moments, True) and calls <= 8)
    assert most_carried(judged(tries)) == 8
    assert [one.calls for one in tries][:4] == [1, 2, 2, 2]


def test_with_every_tenth_try_disturbed_the_same_number_comes_out() -> None:
    found = []
    for seed in range(200):
        moments = random.Random(seed)

        def carries(calls: int, moments: random.Random = moments) -> bool:
            return calls <= 8 and moments.random() > 0.1

        found.append(most_carried(judged(searched(carries))))
    near = sum(abs(one - 8) <= 1 for one in found)
    assert near >= 190, sorted(found)


def test_most_tries_of_a_number_decide_and_its_last_one_that_says_so_is_shown() -> None:
    (only,) = judged([step(3, "a gap of 200 ms"), step(3), step(3, "p95 answer 3.00 s")])
    assert (only.carried, only.tries, only.good_tries, only.problem) == (False, 3, 1, "p95 answer 3.00 s")
    entry = only.as_json()
    assert (entry["try_count"], entry["carried_count"], entry["carried"]) == (3, 1, False)


def test_the_search_goes_no_further_than_it_may() -> None:
    steps = [step(1), step(2), step(4)]
    assert next_calls(steps, 6) == 6
    assert next_calls([*steps, step(6), step(6)], 6) is None


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


def test_numbers_that_would_overlap_are_left_out_below_a_row_but_for_the_ends_of_the_search() -> None:
    steps = [step(one) for one in (1, 32, 33)] + [step(one, "silence") for one in (34, 35, 40, 48, 64)]
    shapes = draw_capacity(steps, "cpu")
    below = [
        one for one in shapes if isinstance(one, ChartText) and one.anchor == "middle" and one.text.isdigit()
    ]
    first_row = [one for one in below if one.y == min(other.y for other in below)]
    assert {"33", "34"} & {one.text for one in first_row}
    places = sorted(one.x for one in first_row)
    assert all(right - left >= 24 for left, right in itertools.pairwise(places))


def test_the_report_has_the_result_the_picture_and_each_number_and_shows_what_others_wrote_as_text() -> None:
    steps = judged([step(1), step(2), step(2), step(3, "<script>silence"), step(3, "<script>silence")])
    text = capacity_page(
        steps,
        ("cpu", "CPU: 99% & more"),
        {"max_concurrent_jobs": 2.0},
        host="voice<1>",
        made_at="2026-11-22 15:00:00",
        duration_s=61.0,
        stopped="",
    )
    HTMLParser().feed(text)
    assert "<h1>2 calls at once</h1>" in text
    assert "<code>max_concurrent_jobs: 2</code>" in text
    assert "0 of 2" in text
    assert "<svg" in text
    assert "<script>" not in text
    assert "voice&lt;1&gt;" in text
