from __future__ import annotations

import msgspec

from voiceops.calls.stats import CallReport
from voiceops.calls.text import describe, summary
from voiceops.model.calls import CallerLoad, CallFailure, CallPlan, CallResult, FailureKind, Hangup

GOOD = CallResult(id=0, ok=True, room="r", identity="i", connect_s=0.07, agent_s=0.34, audio_s=0.4)
FAILURE = CallFailure(
    kind=FailureKind.NO_AGENT, detail="no agent joined within 15 s", seen=("connected after 0.07 s",)
)
FINDING = {
    "rule": "no-worker",
    "cause": "No worker.",
    "evidence": ["agent is missing"],
    "fix": "inv start --only agent",
}
VERDICT = {"findings": [FINDING]}
BAD = CallResult(id=1, ok=False, room="r", identity="i", connect_s=0.07, failure=FAILURE, verdict=VERDICT)


def said(*results: CallResult, load: CallerLoad | None = None) -> str:
    return summary(
        CallReport(
            plan=CallPlan(count=len(results)), results=results, load=load or CallerLoad(), duration_s=2.0
        )
    )


def test_one_call_is_one_sentence() -> None:
    assert said(GOOD) == "ok: connected 0.07 s, agent joined 0.34 s, first audio 0.40 s"


def test_a_failed_call_says_what_was_seen_why_and_what_fixes_it() -> None:
    text = said(BAD)
    assert "failed (no-agent): no agent joined within 15 s" in text
    assert "connected after 0.07 s" in text
    assert "why: no-worker: No worker.\n       agent is missing" in text
    assert "fix: inv start --only agent" in text


def test_a_failure_that_no_rule_knows_says_so() -> None:
    assert "why: no rule knows this failure" in said(msgspec.structs.replace(BAD, verdict={"findings": []}))


def test_many_calls_are_a_table_with_a_verdict() -> None:
    text = said(GOOD, BAD)
    assert "p95" in text
    assert "1 of 2 calls answered (50.0%) in 2.0 s: fewer than the 95.0% expected" in text
    assert "call 1: failed (no-agent)" in text


def test_held_calls_tell_the_worst_of_them_with_its_call_and_time() -> None:
    held = msgspec.structs.replace(
        GOOD,
        quality=4.3,
        max_gap_s=0.02,
        max_gap_at_s=1.0,
        max_pause_s=0.0,
        loss=0.0,
        jitter_s=0.004,
        round_trip_s=0.03,
    )
    worse = msgspec.structs.replace(held, id=1, quality=2.9, max_gap_s=0.48, max_gap_at_s=7.25, loss=0.03)
    assert "largest gap 20 ms" in said(held)
    assert "quality 4.3, 0.0% of packets lost" in said(held)
    assert (
        "2 calls held: lowest quality 2.9 (call 1), most packets lost 3.0%, largest gap 480 ms (call 1, 7.2 s after it began)"
    ) in said(held, worse)


def test_starved_callers_are_noted_where_there_were_several() -> None:
    starved = CallerLoad(starved=True, detail="too slow")
    assert "note: too slow" in said(GOOD, GOOD, load=starved)
    assert "note" not in said(GOOD, load=starved)


def test_a_plan_is_described_before_it_runs() -> None:
    plan = CallPlan(count=20, rate_per_s=2.0, redial=True, hangups=(Hangup.CLEAN, Hangup.ABRUPT))
    assert describe(plan, 3) == "20 calls, 3 at once, 2 per second, hang up: clean,abrupt, redial"
