"""Lines by level, by text and by room."""

from __future__ import annotations

import json
import re

from voiceops.stack.logs.files import TimedLine
from voiceops.stack.logs.select import LineFilter


def line(text: str = "", service: str = "agent", **fields: object) -> TimedLine:
    return TimedLine(1.0, service, text or json.dumps({"message": "m", "level": "info"} | fields))


def texts(chosen: LineFilter, *lines: TimedLine) -> list[int]:
    """The positions of the lines that were selected."""
    taken = list(chosen.select(lines))
    return [index for index, one in enumerate(lines) if one in taken]


POLL = {"message": "API RoomService.ListRooms", "method": "ListRooms", "status": "200"}


def test_who_only_looked_is_left_out_unless_asked_for() -> None:
    lines = [line(**POLL), line(**POLL | {"status": "401"}), line(**POLL | {"method": "DeleteRoom"})]
    assert texts(LineFilter(), *lines) == [1, 2]
    assert texts(LineFilter(level="debug"), *lines) == [0, 1, 2]
    assert texts(LineFilter(everything=True), *lines) == [0, 1, 2]


def test_a_level_takes_what_is_graver_and_the_traceback_behind_it() -> None:
    lines = [
        line(level="DEBUG"),
        line(level="warn"),
        line("2026-01-01 00:00:00 ERROR no database"),
        line("Traceback (most recent call last):"),
        line('  File "agent.py", line 3'),
        line("plain", service="web"),
        line(level="fatal"),
    ]
    assert texts(LineFilter(level="warning"), *lines) == [1, 2, 3, 4, 6]
    assert texts(LineFilter(level="error"), *lines) == [2, 3, 4, 6]
    assert texts(LineFilter(level="info"), *lines) == [1, 2, 3, 4, 5, 6]


def test_a_pattern_is_searched_in_the_whole_line() -> None:
    lines = [line(id="AW_1"), line("call AW_2 ended"), line("other")]
    assert texts(LineFilter(pattern=re.compile("AW_[12]")), *lines) == [0, 1]


def test_a_room_takes_the_lines_of_its_jobs_and_of_its_sid() -> None:
    lines = [
        line(pii={"room": "r1"}, job_id="AJ_1"),
        line(job_id="AJ_1", message="no room here"),
        line(room="r2", job_id="AJ_2"),
        line(job_id="AJ_2"),
        line(service="livekit", room=["r1"], roomID="RM_1"),
        line(service="livekit", roomID="RM_1"),
        line("joined r1 now"),
        line("  and a line that goes on"),
        line("joined r1-other"),
        line(workerID="AW_1"),
    ]
    assert texts(LineFilter(room="r1"), *lines) == [0, 1, 4, 5, 6, 7]
