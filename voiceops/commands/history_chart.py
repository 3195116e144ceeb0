"""The picture of a history: answer times above, success rate below, incidents shaded in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from voiceops.calls.chart import (
    FAILED,
    FAINT,
    GRID,
    WIDTH,
    ChartBand,
    ChartDot,
    ChartLine,
    ChartText,
    Shape,
    ticks,
)
from voiceops.calls.stats import percentile
from voiceops.history.select import HistoryPart
from voiceops.model.history import CallRecord

_LEFT, _RIGHT = 70, WIDTH - 30
_TOP, _MIDDLE, _LOWER, _BOTTOM = 80, 330, 410, 580
_ANSWER, _RATE, _SHADE = "#1b7f79", "#7a4fa3", "#f6dcd9"
_BUCKETS = 48
_MOST_DOTS = 4000


def draw_history(parts: Sequence[HistoryPart], *, since: float, until: float) -> list[Shape]:
    """All shapes, back to front; the axis begins with the first record after ``since``."""
    calls = sorted((call for part in parts for call in part.calls), key=lambda call: call.started_at)
    incidents = [one for part in parts for one in part.incidents]
    times = [call.started_at for call in calls] + [one.began_at for one in incidents]
    begin = max(since, min(times, default=since))
    axis = _TimeAxis(begin, max(until, begin + 1.0))
    ended = [call for call in calls if call.outcome not in (None, "abandoned")]
    answered = sum(call.answered for call in ended)
    shapes: list[Shape] = [
        ChartText(_LEFT, 32, f"{answered} of {len(ended)} calls answered", 20, bold=True),
        ChartText(_LEFT, 54, _subtitle(calls, len(incidents)), 13, FAINT),
    ]
    for incident in incidents:
        left, right = axis.x(incident.began_at), axis.x(incident.ended_at or until)
        for top, bottom in ((_TOP, _MIDDLE), (_LOWER, _BOTTOM)):
            shapes.append(ChartBand(left, top, max(right, left + 1.5), bottom, _SHADE))
    return [*shapes, *_answer_times(calls, axis), *_success(ended, axis)]


class _TimeAxis:
    def __init__(self, begin: float, end: float) -> None:
        self.begin = begin
        self.end = end

    def x(self, at: float) -> float:
        """Where a point in time lies."""
        share = (min(max(at, self.begin), self.end) - self.begin) / (self.end - self.begin)
        return round(_LEFT + (_RIGHT - _LEFT) * share, 2)

    def labels(self, y: float) -> list[Shape]:
        """Five points in time below the axis."""
        shown = "%d %b %H:%M" if self.end - self.begin > 86_400 else "%H:%M:%S"
        return [
            ChartText(self.x(at), y, datetime.fromtimestamp(at).strftime(shown), 12, FAINT, "middle")
            for at in (self.begin + (self.end - self.begin) * index / 4 for index in range(5))
        ]


def _subtitle(calls: Sequence[CallRecord], incident_count: int) -> str:
    times = [call.answer_s for call in calls if call.answer_s is not None]
    heard = f"p50 {percentile(times, 50):.2f} s, p95 {percentile(times, 95):.2f} s; " if times else ""
    return f"{heard}{incident_count} incidents (shaded)"


def _answer_times(calls: Sequence[CallRecord], axis: _TimeAxis) -> list[Shape]:
    top_s = ticks(max((call.answer_s or 0.0 for call in calls), default=1.0) * 1.05 or 1.0)[-1]
    shapes: list[Shape] = [ChartText(_LEFT, _TOP - 8, "seconds until the agent was heard", 13, FAINT)]
    for tick in ticks(top_s):
        y = _y(tick / top_s, _MIDDLE, _TOP)
        shapes.append(ChartLine(((_LEFT, y), (_RIGHT, y)), GRID))
        shapes.append(ChartText(_LEFT - 8, y + 4, f"{tick:g}", 12, FAINT, "end"))
    step = math.ceil(len(calls) / _MOST_DOTS) or 1
    for index, call in enumerate(calls):
        if call.answer_s is not None and index % step == 0:
            shapes.append(
                ChartDot(axis.x(call.started_at), _y(call.answer_s / top_s, _MIDDLE, _TOP), _ANSWER)
            )
        if call.outcome not in (None, "abandoned", "answered"):
            shapes.append(ChartDot(axis.x(call.started_at), _TOP + 4, FAILED, cross=True))
    return shapes + axis.labels(_MIDDLE + 18)


def _success(ended: Sequence[CallRecord], axis: _TimeAxis) -> list[Shape]:
    shapes: list[Shape] = [ChartText(_LEFT, _LOWER - 8, "share of calls that were answered", 13, FAINT)]
    for percent in (0, 50, 95, 100):
        y = _y(percent / 100, _BOTTOM, _LOWER)
        shapes.append(ChartLine(((_LEFT, y), (_RIGHT, y)), GRID, dashed=percent == 95))
        if percent != 95:
            shapes.append(ChartText(_LEFT - 8, y + 4, f"{percent} %", 12, FAINT, "end"))
    width_s = (axis.end - axis.begin) / _BUCKETS
    buckets: dict[int, list[bool]] = {}
    for call in ended:
        buckets.setdefault(int((call.started_at - axis.begin) / width_s), []).append(
            call.answer_s is not None
        )
    points = [
        (axis.x(axis.begin + (index + 0.5) * width_s), _y(sum(good) / len(good), _BOTTOM, _LOWER))
        for index, good in sorted(buckets.items())
    ]
    if points:
        shapes.append(ChartLine(tuple(points), _RATE, 2.5))
        shapes += [ChartDot(x, y, _RATE) for x, y in points]
    return shapes + axis.labels(_BOTTOM + 18)


def _y(share: float, low: float, high: float) -> float:
    return round(low + (high - low) * share, 2)
