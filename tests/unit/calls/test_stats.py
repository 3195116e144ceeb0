from __future__ import annotations

import pytest

from voiceops.calls.stats import CallReport, percentile, weigh
from voiceops.model.calls import CallerLoad, CallFailure, CallPlan, CallResult, FailureKind


def result(number: int, audio_s: float | None = None, kind: FailureKind | None = None) -> CallResult:
    failure = None if kind is None else CallFailure(kind=kind, detail="so")
    return CallResult(
        id=number, ok=kind is None, room="r", identity="i", connect_s=0.1, audio_s=audio_s, failure=failure
    )


def report(*results: CallResult, expect: float = 0.95) -> CallReport:
    return CallReport(
        plan=CallPlan(count=len(results), expect_success=expect),
        results=results,
        load=CallerLoad(),
        duration_s=1.0,
    )


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (50, 2.5), (95, 3.85), (100, 4.0)])
def test_percentiles_lie_between_the_nearest_values(percent: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == pytest.approx(value)


def test_json_has_what_others_build_on() -> None:
    document = report(result(0, 0.4), result(1, None, FailureKind.SILENT)).as_json()
    assert (document["answered_count"], document["failed_count"]) == (1, 1)
    assert document["calls"][0]["audio_s"] == 0.4
    assert document["p50"] == {"connect_s": 0.1, "audio_s": 0.4}
    assert document["failure_counts"] == {"silent": 1}
    assert document["calls"][1]["failure"]["kind"] == "silent"


@pytest.mark.parametrize(
    ("kinds", "expect", "code"),
    [
        ([None] * 20, 0.95, 0),
        ([None] * 19 + [FailureKind.NO_AGENT], 0.95, 0),
        ([None] * 18 + [FailureKind.NO_AGENT] * 2, 0.95, 1),
        ([FailureKind.NO_AGENT], 0.0, 0),
        ([FailureKind.NO_CONNECT, FailureKind.CREDENTIALS], 0.95, 5),
        ([FailureKind.NO_CONNECT, FailureKind.NO_AGENT], 0.95, 1),
        ([FailureKind.NO_CONNECT, None], 0.95, 1),
    ],
)
def test_the_exit_code_tells_too_few_good_calls_from_no_server(
    kinds: list[FailureKind | None], expect: float, code: int
) -> None:
    assert report(*(result(n, None, kind) for n, kind in enumerate(kinds)), expect=expect).exit_code == code


@pytest.mark.parametrize(
    ("cpu_s", "machine", "lags", "starved"),
    [
        (0.1, [0.5], [0.001] * 20, False),
        (0.1, [1.0], [0.001] * 20, False),
        (12.0, [1.0], [0.001] * 20, True),
        (0.1, [0.5], [0.2] * 20, True),
        (0.0, [], [], False),
    ],
    ids=["idle", "others are busy", "callers fill the machine", "callers wake up late", "nothing measured"],
)
def test_starved_callers_are_told(
    cpu_s: float, machine: list[float], lags: list[float], starved: bool
) -> None:
    load = weigh(processes=1, cpu_s=cpu_s, wall_s=10.0, cores=2, machine=machine, lags=lags)
    assert load.starved is starved
    assert bool(load.detail) is starved


def test_a_rate_that_the_callers_could_not_keep_is_told() -> None:
    load = weigh(processes=1, cpu_s=0.1, wall_s=10.0, cores=2, machine=[0.5], lags=[0.001], late_s=3.0)
    assert load.starved
    assert "raise --concurrency" in load.detail
