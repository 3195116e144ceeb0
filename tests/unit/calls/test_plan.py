from __future__ import annotations

from pathlib import Path

import pytest

from voiceops.calls.plan import lines_for, make_plan
from voiceops.errors import UsageError
from voiceops.model.calls import CallPlan, Hangup


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"count": 0}, "--count"),
        ({"concurrency": -1}, "--concurrency"),
        ({"concurrency": 5000}, "--concurrency"),
        ({"rate": -0.5}, "--rate"),
        ({"duration": float("inf")}, "--duration"),
        ({"timeout": float("nan")}, "--timeout"),
        ({"hold": 5.0, "min_quality": 9.0}, "--min-quality is 9"),
        ({"min_quality": 4.0}, "--min-quality needs --hold"),
        ({"expect_success": 95.0}, "--expect-success"),
        ({"hangups": ["sudden"]}, "'sudden'"),
        ({"script": "/no/such.wav"}, "/no/such.wav"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(flags: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        make_plan(**flags)  # type: ignore[arg-type]
    assert refused.value.hint


def test_flags_become_a_plan(tmp_path: Path) -> None:
    wav = tmp_path / "hello.wav"
    wav.touch()
    plan = make_plan(count=3, hangups=["clean", "abrupt"], script=str(wav), redial=True)
    assert plan.hangups == (Hangup.CLEAN, Hangup.ABRUPT)
    assert plan.timeout_s == 15.0
    assert plan.script == str(wav)


@pytest.mark.parametrize(
    ("plan", "lines"),
    [
        (CallPlan(count=5), 1),
        (CallPlan(count=5, concurrency=10), 5),
        (CallPlan(count=50, concurrency=10), 10),
        (CallPlan(count=100, concurrency=0, rate_per_s=2.0), 30),
        (CallPlan(duration_s=60.0, concurrency=0, rate_per_s=1000.0), 256),
        (CallPlan(duration_s=60.0, concurrency=3), 3),
    ],
)
def test_as_many_callers_as_the_plan_can_keep_busy(plan: CallPlan, lines: int) -> None:
    assert lines_for(plan) == lines
