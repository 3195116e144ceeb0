"""Each mistake of docs/mistakes.md, made for real: its first line names the thing and the place, its hint the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.mistakes import DOCUMENT, MISTAKES, Mistake, ask, row


@pytest.mark.parametrize("mistake", MISTAKES, ids=[one.id for one in MISTAKES])
def test_a_mistake_is_answered_as_the_document_says(mistake: Mistake, tmp_path: Path) -> None:
    answer = ask(mistake, tmp_path)
    assert answer.code in (1, 3, 5), answer.output
    assert answer.first_line.startswith("error: "), answer.output
    missing = [name for name in mistake.names if name not in answer.first_line]
    assert missing == [], answer.first_line
    assert answer.hint, answer.output
    assert "Traceback" not in answer.output
    assert row(mistake, answer) in DOCUMENT.read_text().splitlines()


def test_the_document_has_each_mistake_once() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if "| `inv " in line]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == [one.what for one in MISTAKES]
    assert len(rows) >= 40
