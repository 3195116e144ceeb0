"""Lay out sections of rows on a screen of a given size: what does not fit is cut, and counted.

Pure. Whoever composes a line passes text of others through ``printable``, so that a cell here is one that a
terminal shows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from voiceops.model.quoting import printable

_CUT = "..."


class Span(NamedTuple):
    """A part of a line in one style of ``util.terminal``; empty: the reader's own."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and rows, of which a small screen shows a part."""

    head: Line
    rows: Sequence[Line] = ()
    rank: int = 0
    """Where there is too little room, sections of a lower rank get theirs first."""
    least: int = 1
    """Rows that it gets before any other section gets more than its own least; what is left is shared evenly."""


def shown_text(text: str) -> str:
    """Return text of others in one line, without what could draw on the terminal."""
    return printable(" ".join(text.split()))


def width_of(text: str) -> int:
    """Return the columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def line_width(line: Line) -> int:
    """Return the columns that a line takes."""
    return sum(width_of(span.text) for span in line)


def cut(line: Line, width: int | None) -> Line:
    """Return the line, shortened where it is wider than ``width``; None: there is no limit."""
    if width is None or line_width(line) <= width:
        return line
    mark = _CUT[: max(0, width)]
    left = width - len(mark)
    kept: list[Span] = []
    for span in line:
        taken, left, whole = _fitting(span.text, left)
        kept.append(Span(taken, span.style))
        if not whole:
            break
    return (*kept, Span(mark))


def _fitting(text: str, room: int) -> tuple[str, int, bool]:
    """The beginning of ``text`` that fits, the room that is left, and whether it is all of it."""
    for index, character in enumerate(text):
        room -= _character_width(character)
        if room < 0:
            return text[:index], 0, False
    return text, room, True


def in_columns(rows: Sequence[Sequence[Span]], *, right: Sequence[int] = ()) -> list[Line]:
    """Align cells in columns, two blanks apart; a column without any text is left out. ``right``: numbers."""
    if not rows:
        return []
    used = [index for index in range(len(rows[0])) if any(row[index].text for row in rows)]
    last = max(used, default=0)
    widths = {index: max(width_of(row[index].text) for row in rows) for index in used}
    lines: list[Line] = []
    for row in rows:
        spans: list[Span] = []
        for index in used:
            blank = Span(" " * (widths[index] - width_of(row[index].text)))
            spans += [blank, row[index]] if index in right else [row[index]]
            if index != last:
                spans += [Span("  ")] if index in right else [blank, Span("  ")]
        lines.append(tuple(span for span in spans if span.text))
    return lines


def fit(sections: Sequence[Section], *, width: int | None, height: int | None) -> list[Line]:
    """Return the lines of the sections, in their order, at most ``height`` of at most ``width`` columns."""
    given = {index: len(one.rows) for index, one in enumerate(sections)}
    blank = False
    if height is not None:
        given = _allotted(sections, height)
        taken = sum(1 + count for count in given.values())
        complete = all(count == len(sections[index].rows) for index, count in given.items())
        blank = complete and taken + len(given) - 1 <= height
    lines: list[Line] = []
    for index, count in given.items():
        if blank and lines:
            lines.append(())
        lines += _section_lines(sections[index], count)
    return [cut(line, width) for line in lines]


def _allotted(sections: Sequence[Section], height: int) -> dict[int, int]:
    """Section -> rows that are shown of it; a section whose heading does not fit is left out."""
    by_rank = sorted(range(len(sections)), key=lambda index: sections[index].rank)
    headed = by_rank[: max(0, height)]
    left = height - len(headed)
    given = dict.fromkeys(sorted(headed), 0)
    for index in headed:
        given[index] = min(sections[index].least, len(sections[index].rows), left)
        left -= given[index]
    while left:
        short = [index for index in headed if given[index] < len(sections[index].rows)]
        if not short:
            break
        for index in short[:left]:
            given[index] += 1
        left -= len(short[:left])
    return given


def _section_lines(section: Section, count: int) -> list[Line]:
    missing = len(section.rows) - count
    if not missing:
        return [section.head, *section.rows]
    if not count:
        return [(*section.head, Span(f"  ({missing} not shown)"))]
    # The line that counts them takes the place of one.
    return [section.head, *section.rows[: count - 1], (Span(f"  {_CUT} {missing + 1} more"),)]
