"""The picture of a run: what to draw, as plain shapes. ``pictures`` turns them into files.

One description serves the HTML report and the PNG, so both show the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from voiceops.calls.stats import CallReport, percentile
from voiceops.model.calls import CallResult

WIDTH, HEIGHT = 960, 640
INK, FAINT, GRID, PAPER = "#1f2933", "#66727f", "#dde3ea", "#ffffff"
SERIES = (
    ("connect_s", "connected", "#8aa4bf"),
    ("agent_s", "agent joined", "#e0a030"),
    ("audio_s", "first audio", "#1b7f79"),
    ("answer_s", "answer", "#7a4fa3"),
    ("max_gap_s", "largest gap", "#b5651d"),
)
FAILED = "#c0392b"
_LEFT, _RIGHT = 70, 30
_FIRST_TOP, _FIRST_BOTTOM = 80, 330
_SECOND_TOP, _SECOND_BOTTOM = 410, 580


@dataclass(frozen=True, slots=True)
class ChartLine:
    points: tuple[tuple[float, float], ...]
    color: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class ChartDot:
    x: float
    y: float
    color: str
    cross: bool = False
    """A failed call: a cross, so that it does not depend on colour."""


@dataclass(frozen=True, slots=True)
class ChartText:
    x: float
    y: float
    text: str
    size: int = 13
    color: str = INK
    anchor: str = "start"
    """start, middle or end, as in SVG."""
    bold: bool = False


@dataclass(frozen=True, slots=True)
class ChartBand:
    """A filled rectangle behind what is drawn after it."""

    left: float
    top: float
    right: float
    bottom: float
    color: str


Shape = Union[ChartLine, ChartDot, ChartText, ChartBand]


def draw(report: CallReport) -> list[Shape]:
    """All shapes, back to front: times over the run above, their distribution below."""
    shapes: list[Shape] = [
        ChartText(_LEFT, 32, f"{report.ok} of {len(report.results)} calls answered", 20, bold=True),
        ChartText(_LEFT, 54, _subtitle(report), 13, FAINT),
    ]
    used = [(name, label, color) for name, label, color in SERIES if report.values(name)]
    top_s = _ceiling([value for name, _, _ in used for value in report.values(name)])
    shapes += _over_time(report, used, top_s)
    shapes += _distribution(report, used, top_s)
    return shapes


def ticks(highest: float, about: int = 5) -> list[float]:
    """Round numbers from 0 to at least ``highest``."""
    step = 10 ** math.floor(math.log10(max(highest, 1e-6) / about))
    step = next(step * factor for factor in (1, 2, 5, 10) if step * factor * about >= highest)
    return [index * step for index in range(math.ceil(highest / step - 1e-9) + 1)]


def _ceiling(values: Sequence[float]) -> float:
    return ticks(max(values, default=1.0) * 1.05)[-1]


def _subtitle(report: CallReport) -> str:
    audio = report.values("audio_s")
    heard = (
        f"first audio p50 {percentile(audio, 50):.2f} s, p95 {percentile(audio, 95):.2f} s; " if audio else ""
    )
    return f"{heard}{report.duration_s:.0f} s in all" + (
        "; callers were starved" if report.load.starved else ""
    )


def _over_time(report: CallReport, used: list[tuple[str, str, str]], top_s: float) -> list[Shape]:
    end_s = ticks(max((result.started_s for result in report.results), default=0.0) or 1.0)[-1]
    shapes: list[Shape] = [ChartText(_LEFT, _FIRST_TOP - 8, "seconds per call, by when it began", 13, FAINT)]
    for tick in ticks(top_s):
        y = _scale(tick, top_s, _FIRST_BOTTOM, _FIRST_TOP)
        shapes.append(ChartLine(((_LEFT, y), (WIDTH - _RIGHT, y)), GRID))
        shapes.append(ChartText(_LEFT - 8, y + 4, f"{tick:g}", 12, FAINT, "end"))
    for tick in ticks(end_s):
        x = _scale(tick, end_s, _LEFT, WIDTH - _RIGHT)
        shapes.append(ChartText(x, _FIRST_BOTTOM + 18, f"{tick:g} s", 12, FAINT, "middle"))
    for name, _label, color in used:
        for result in report.results:
            value = getattr(result, name)
            if value is not None:
                x = _scale(result.started_s, end_s, _LEFT, WIDTH - _RIGHT)
                shapes.append(ChartDot(x, _scale(value, top_s, _FIRST_BOTTOM, _FIRST_TOP), color))
    shapes += [_failed_at(result, end_s) for result in report.results if not result.ok]
    return shapes + _legend(report, used)


def _failed_at(result: CallResult, end_s: float) -> ChartDot:
    return ChartDot(
        _scale(result.started_s, end_s, _LEFT, WIDTH - _RIGHT), _FIRST_TOP + 4, FAILED, cross=True
    )


def _legend(report: CallReport, used: list[tuple[str, str, str]]) -> list[Shape]:
    shapes: list[Shape] = []
    x = float(_LEFT)
    y = _FIRST_BOTTOM + 44
    entries = [(label, color, False) for _, label, color in used]
    if report.failed:
        entries.append((f"failed ({report.failed})", FAILED, True))
    for label, color, cross in entries:
        shapes.append(ChartDot(x + 4, y - 4, color, cross))
        shapes.append(ChartText(x + 14, y, label, 13))
        x += 34 + 8 * len(label)
    return shapes


def _distribution(report: CallReport, used: list[tuple[str, str, str]], top_s: float) -> list[Shape]:
    """The share of calls that were at most that slow; steep and far left is good."""
    shapes: list[Shape] = [
        ChartText(_LEFT, _SECOND_TOP - 8, "share of calls that took at most that long", 13, FAINT)
    ]
    for percent in (0, 50, 95, 100):
        y = _scale(percent, 100, _SECOND_BOTTOM, _SECOND_TOP)
        shapes.append(ChartLine(((_LEFT, y), (WIDTH - _RIGHT, y)), GRID, dashed=percent == 95))
        if percent != 95:
            shapes.append(ChartText(_LEFT - 8, y + 4, f"{percent} %", 12, FAINT, "end"))
    shapes.append(
        ChartText(WIDTH - _RIGHT, _scale(95, 100, _SECOND_BOTTOM, _SECOND_TOP) + 14, "95 %", 12, FAINT, "end")
    )
    for tick in ticks(top_s):
        x = _scale(tick, top_s, _LEFT, WIDTH - _RIGHT)
        shapes.append(ChartText(x, _SECOND_BOTTOM + 18, f"{tick:g} s", 12, FAINT, "middle"))
    for name, _label, color in used:
        values = sorted(report.values(name))
        points: list[tuple[float, float]] = []
        for index, value in enumerate(values):
            x = _scale(value, top_s, _LEFT, WIDTH - _RIGHT)
            for share in (index, index + 1):
                points.append(
                    (x, _scale(share * 100 / len(report.results), 100, _SECOND_BOTTOM, _SECOND_TOP))
                )
        shapes.append(ChartLine(tuple(points), color, 2.5))
    return shapes


def _scale(value: float, highest: float, low: float, high: float) -> float:
    return round(low + (high - low) * value / highest, 2)
