from __future__ import annotations

import pytest

from voiceops.calls.quality import BEST, WINDOW_S, QualityMeter, mean_opinion_score
from voiceops.model.calls import LineMeasured

EVERY_S = 0.5


def readings(*concealed_s: float, stretches: bool = True) -> list[LineMeasured]:
    """One reading each half second; what is made up in each, as one stretch each or as one in all."""
    made: list[LineMeasured] = []
    total, begun = 0.0, 0
    for index, missing_s in enumerate(concealed_s):
        total += missing_s
        begun += bool(missing_s) and (stretches or not begun)
        made.append(
            LineMeasured(
                at=index * EVERY_S,
                track="one",
                received=index * 25,
                lost=round(total * 50),
                jitter_s=0.004,
                round_trip_s=0.02,
                heard_s=index * EVERY_S,
                concealed_s=total,
                concealments=begun,
                buffered_s=index * EVERY_S * 0.05,
            )
        )
    return made


def meter(*readings: LineMeasured) -> QualityMeter:
    made = QualityMeter()
    for one in readings:
        made.take(one, one.at)
    return made


def test_a_call_in_which_nothing_is_missing_has_the_best_score() -> None:
    found = meter(*readings(*[0.0] * 20))
    assert found.worst == pytest.approx(BEST, abs=0.05)
    assert (found.max_gap_s, found.loss) == (0.0, 0.0)
    assert (found.jitter_s, found.round_trip_s) == (0.004, 0.02)


def test_one_gap_over_several_readings_is_one_and_has_its_time() -> None:
    found = meter(*readings(0, 0, 0, 0.2, 0.5, 0.1, 0, 0, 0, 0, 0, 0, stretches=False))
    assert found.max_gap_s == pytest.approx(0.8)
    assert found.max_gap_at_s == pytest.approx(2.5 - 0.8)


def test_gaps_with_audio_between_them_are_not_added_up() -> None:
    assert meter(*readings(0, 0.1, 0, 0.2, 0.1, 0)).max_gap_s == pytest.approx(0.2)


def test_a_bad_moment_of_a_long_call_is_not_averaged_away() -> None:
    found = meter(*readings(*[0.0] * 100, 0.5, *[0.0] * 100))
    assert found.worst is not None
    assert found.worst < 3
    assert found.worst_at_s == pytest.approx(50.0, abs=WINDOW_S)


def test_a_call_shorter_than_a_window_is_judged_by_all_of_it() -> None:
    found = meter(*readings(0, 0.25, 0))
    assert found.worst is not None
    assert found.worst < 2.5
    assert meter(*readings(0.0)).worst is None


def test_another_agents_track_counts_anew() -> None:
    first = readings(*[0.0] * 12)
    second = LineMeasured(
        **{name: getattr(first[0], name) for name in first[0].__struct_fields__} | {"track": "two", "at": 6.0}
    )
    found = meter(*first, second)
    assert found.loss == 0.0
    assert found.max_gap_s == 0.0


@pytest.mark.parametrize(
    ("missing", "delay_s", "low", "high"),
    [(0, 0.05, 4.3, 4.4), (0.02, 0.05, 3.7, 4.1), (0.1, 0.05, 2.0, 2.6), (1, 0.05, 1, 1), (0, 0.4, 3.0, 3.9)],
)
def test_scores_follow_the_e_model(missing: float, delay_s: float, low: float, high: float) -> None:
    assert low <= mean_opinion_score(missing=missing, delay_s=delay_s) <= high
