from __future__ import annotations

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from voiceops.calls import pictures
from voiceops.calls.chart import HEIGHT, WIDTH, ChartDot, ChartLine, draw, ticks
from voiceops.calls.page import page
from voiceops.calls.stats import CallReport
from voiceops.errors import StorageError, UsageError
from voiceops.model.calls import CallerLoad, CallFailure, CallPlan, CallResult, FailureKind


@pytest.fixture
def report() -> CallReport:
    good = [
        CallResult(
            id=n, ok=True, room="r", identity="i", started_s=n / 2, connect_s=0.1, agent_s=0.3, audio_s=0.4
        )
        for n in range(8)
    ]
    failure = CallFailure(
        kind=FailureKind.NO_AGENT, detail="no <agent> joined", seen=("connected after 0.10 s",)
    )
    verdict = {"findings": [{"rule": "no-worker", "cause": "No worker.", "fix": "inv start --only agent"}]}
    bad = CallResult(
        id=8, ok=False, room="r", identity="i", started_s=4.0, connect_s=0.1, failure=failure, verdict=verdict
    )
    return CallReport(
        plan=CallPlan(count=9),
        results=(*good, bad),
        load=CallerLoad(starved=True, detail="too slow"),
        duration_s=5.0,
    )


@pytest.fixture
def nothing() -> CallReport:
    failure = CallFailure(kind=FailureKind.NO_CONNECT, detail="nobody there")
    bad = CallResult(id=0, ok=False, room="r", identity="i", failure=failure)
    return CallReport(plan=CallPlan(), results=(bad,), load=CallerLoad(), duration_s=0.1)


def test_every_mark_lies_on_the_paper(report: CallReport) -> None:
    shapes = draw(report)
    points = [(one.x, one.y) for one in shapes if isinstance(one, ChartDot)]
    points += [point for one in shapes if isinstance(one, ChartLine) for point in one.points]
    assert points
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


@pytest.mark.parametrize("highest", [0.001, 0.4, 1.0, 7.3, 15.0, 1234.0])
def test_ticks_are_few_round_and_reach_the_top(highest: float) -> None:
    found = ticks(highest)
    assert found[0] == 0
    assert found[-1] >= highest * (1 - 1e-9)
    assert len(found) <= 7


def test_svg_is_well_formed_and_loads_nothing(report: CallReport) -> None:
    text = pictures.svg(draw(report))
    ET.fromstring(text)
    assert "href" not in text


def test_a_run_without_any_good_call_can_be_drawn(nothing: CallReport, tmp_path: Path) -> None:
    for name in ("none.svg", "none.png"):
        pictures.save(draw(nothing), str(tmp_path / name))
        assert (tmp_path / name).stat().st_size > 500
    assert "0 of 1 calls answered" in page(nothing, url="ws://x", made_at="now")


def test_the_page_tells_all_loads_nothing_and_escapes(report: CallReport) -> None:
    text = page(report, url="ws://x", made_at="today")
    assert "8 of 9 calls answered" in text
    assert "no &lt;agent&gt; joined" in text
    assert "no-worker" in text
    assert "inv start --only agent" in text
    assert "The callers were the bottleneck" in text
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)


def test_a_png_is_written(report: CallReport, tmp_path: Path) -> None:
    file = tmp_path / "calls.png"
    pictures.save(draw(report), str(file))
    assert file.read_bytes().startswith(b"\x89PNG\r\n")


def test_what_can_not_be_drawn_is_refused_before_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"not calls\.jpg"):
        pictures.check("calls.jpg")
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="Pillow") as refused:
        pictures.check("calls.png")
    assert "pip install pillow" in (refused.value.hint or "")
    pictures.check("calls.svg")
    assert importlib.util.find_spec("PIL") is not None


def test_a_file_that_can_not_be_written_is_refused_before_any_call(tmp_path: Path) -> None:
    for file, words in ((tmp_path, "names a folder"), (tmp_path / "no" / "calls.svg", "there is no folder")):
        with pytest.raises(UsageError, match=words) as refused:
            pictures.check(str(file))
        assert refused.value.hint
    pictures.check(str(tmp_path / "calls.svg"))


def test_a_folder_that_is_not_there_is_a_clear_error(report: CallReport, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        pictures.save(draw(report), str(tmp_path / "no" / "calls.svg"))
