"""The picture of a capacity test: what was heard and what the host did, by the number of calls at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voiceops.calls.capacity import ANSWER_LIMIT_S, GAP_LIMIT_S, CapacityTrial, most_carried
from voiceops.calls.chart import (
    FAILED,
    FAINT,
    GRID,
    HEIGHT,
    WIDTH,
    ChartDot,
    ChartLine,
    ChartText,
    Shape,
    ticks,
)
from voiceops.util.words import counted

_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 30, 90, HEIGHT - 60
_BETWEEN = 60
_WHOLE = 100.0
"""The top of a row of percentages."""
_LABEL = 24
"""What a number of calls takes of the width."""
_COLOR = "#1b7f79"

Value = Callable[[CapacityTrial], float | None]


def draw_capacity(steps: Sequence[CapacityTrial], limited_by: str) -> list[Shape]:
    """All shapes, back to front: p95 answer, largest gap and CPU, each over the calls at once."""
    ordered = sorted(steps, key=lambda one: one.calls)
    gave_in = f"{limited_by} gave in first" if limited_by else "nothing gave in"
    shapes: list[Shape] = [
        ChartText(_LEFT, 32, f"{counted(most_carried(ordered), 'call')} at once", 20, bold=True),
        ChartText(_LEFT, 54, f"{gave_in}; crosses: more than the host carries", 13, FAINT),
    ]
    rows: tuple[tuple[str, Value, float | None], ...] = (
        ("p95 answer in seconds", lambda one: one.answer_p95_s, ANSWER_LIMIT_S),
        (
            "largest gap in ms",
            lambda one: 1000 * max(one.report.values("max_gap_s"), default=0.0),
            1000 * GAP_LIMIT_S,
        ),
        ("CPU of the host in %", lambda one: 100 * one.highest("cpu_share"), None),
    )
    shapes.append(ChartText((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 20, "calls at once", 13, FAINT, "middle"))
    height = (_BOTTOM - _TOP - _BETWEEN * (len(rows) - 1)) / len(rows)
    for number, (label, value, limit) in enumerate(rows):
        top = _TOP + number * (height + _BETWEEN)
        shapes += _row(ordered, label, value, limit, top, top + height)
    return shapes


def _row(
    steps: Sequence[CapacityTrial], label: str, value: Value, limit: float | None, top: float, bottom: float
) -> list[Shape]:
    values = [(one, value(one)) for one in steps]
    found = [limit or 1.0, *(height for _, height in values if height is not None)]
    highest = ticks(1.05 * max(found), 3)[-1] if limit is not None else _WHOLE
    most = max((one.calls for one in steps), default=1)

    def at(calls: float, height: float) -> tuple[float, float]:
        x = _LEFT + (WIDTH - _RIGHT - _LEFT) * calls / most
        return round(x, 2), round(bottom - (bottom - top) * height / highest, 2)

    shapes: list[Shape] = [ChartText(_LEFT, top - 8, label, 13, FAINT)]
    for tick in ticks(highest, 3 if limit is not None else 2):
        shapes.append(ChartLine((at(0, tick), at(most, tick)), GRID))
        shapes.append(ChartText(_LEFT - 8, at(0, tick)[1] + 4, f"{tick:g}", 12, FAINT, "end"))
    if limit is not None:
        shapes.append(ChartLine((at(0, limit), at(most, limit)), FAILED, dashed=True))
        shapes.append(ChartText(_LEFT + 6, at(0, limit)[1] - 5, "limit", 12, FAILED))
    shapes += [ChartText(x, bottom + 18, text, 12, FAINT, "middle") for x, text in _labels(steps, at)]
    shown = [(one, at(one.calls, height)) for one, height in values if height is not None]
    shapes.append(ChartLine(tuple(place for _, place in shown), GRID, 2.0))
    shapes += [ChartDot(*place, _COLOR if one.carried else FAILED, not one.carried) for one, place in shown]
    return shapes


def _labels(
    steps: Sequence[CapacityTrial], at: Callable[[float, float], tuple[float, float]]
) -> list[tuple[float, str]]:
    """The numbers of calls below a row, without those for which there is no room: the ends of the search come first."""
    carried = most_carried(steps)
    chosen: list[tuple[float, str]] = []
    for one in sorted(steps, key=lambda step: (step.calls not in (carried, carried + 1), -step.calls)):
        x, _ = at(one.calls, 0)
        if all(abs(x - other) >= _LABEL for other, _ in chosen):
            chosen.append((x, f"{one.calls}"))
    return chosen
