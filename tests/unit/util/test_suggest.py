"""The known name that a mistyped one resembles."""

from __future__ import annotations

import pytest

from voiceops.util.suggest import closest, resembles


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("--onyl", "--only"),
        ("check_runing", "check-running"),
        ("drain-timeout", "drain_timeout_s"),
        ("something else", None),
    ],
)
def test_the_closest_name_is_found_whether_words_are_joined_by_dashes_or_underscores(
    name: str, best: str | None
) -> None:
    assert closest(name, ["--only", "--drain", "check-running", "drain_timeout_s"]) == best


def test_dashes_and_underscores_are_no_difference() -> None:
    assert resembles("check-running", "check_running")
    assert resembles("check_running", "check-running")
