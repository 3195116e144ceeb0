"""Changes of the dashboard: only what differs travels."""

from __future__ import annotations

import msgspec

from voiceops.model.dashboard import FeedLine, Rows, changes


def test_a_line_has_new_and_changed_rows_and_the_keys_of_those_that_are_gone() -> None:
    before: dict[str, Rows] = {"rooms": {"a": {"people": 1}, "b": {"people": 2}}, "calls": {"c": {}}}
    after: dict[str, Rows] = {"rooms": {"b": {"people": 3}, "d": {"people": None}}, "calls": {"c": {}}}
    line = msgspec.json.decode(msgspec.json.encode(FeedLine(1.5, changes(before, after))))
    assert line == {
        "at": 1.5,
        "sections": {"rooms": {"rows": {"b": {"people": 3}, "d": {"people": None}}, "gone": ["a"]}},
    }


def test_nothing_travels_where_nothing_changed() -> None:
    rows: dict[str, Rows] = {"rooms": {"a": {"people": 1}}}
    line = FeedLine(1.0, changes(rows, rows))
    assert msgspec.json.encode(line) == b'{"at":1.0}'
    assert not line.reset
