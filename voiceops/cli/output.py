"""Text for people: lines that fit the terminal, the same colours in every command, tables.

What goes into a file or a pipe is not folded and has no escape sequences.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from voiceops.model.quoting import printable, printable_lines
from voiceops.util.terminal import BOLD, COMMAND, ERROR, FAINT, OK, WARNING, columns, paint, styled

LABELS = {
    "error": ERROR,
    "failed": ERROR,
    "not done": ERROR,
    "warning": WARNING,
    "not seen": WARNING,
    "note": WARNING,
    "ok": OK,
    "done": OK,
    "fix": COMMAND,
    "hint": COMMAND,
    "next": COMMAND,
}
"""The word that begins a line -> its style."""
STATES = {
    "ready": OK,
    "completed": OK,
    "failed": ERROR,
    "missing": ERROR,
    "duplicate": ERROR,
    "stray": ERROR,
    "stale": ERROR,
    "unresponsive": ERROR,
    "starting": WARNING,
    "stopping": WARNING,
    "draining": WARNING,
    "stopped": FAINT,
}
_LABEL = re.compile(rf"^(\s*)({'|'.join(LABELS)})(?=:| \([\w-]+\):)")
_UNBROKEN = re.compile(r"`[^`]*`\S*|\S+")
_COMMAND_LINE = re.compile(r"^\s*(?:fix|next|done|not done): ")
_NARROWEST = 24
"""A last column with less room than this goes below the others."""


def show(text: str, stream: TextIO | None = None) -> None:
    """Print a text of several lines."""
    stream = stream or sys.stdout
    if stream.isatty() or stream is sys.stderr:
        text = printable_lines(text)
    if stream.isatty():
        width = columns(stream)
        lines = [part for line in text.split("\n") for part in folded(line, width)]
        text = "\n".join(map(_labelled, lines) if styled(stream) else lines)
    # In one write: hosts that are deployed side by side tell what they do from threads.
    stream.write(f"{text}\n")
    if stream is sys.stderr:
        stream.flush()


def folded(line: str, width: int | None) -> list[str]:
    """The line in parts that fit, the further ones indented.

    Commands stay whole, between backquotes or as a fix: one that is broken can't be pasted.
    """
    if width is None or len(line) <= width or _COMMAND_LINE.match(line):
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    parts = [indent]
    begun = False
    for word in _UNBROKEN.findall(line):
        if begun and len(parts[-1]) + 1 + len(word) > width:
            parts.append(f"{indent}  {word}")
        else:
            parts[-1] += f" {word}" if begun else word
        begun = True
    return parts


def _labelled(line: str) -> str:
    return _LABEL.sub(lambda found: found[1] + paint(found[2], LABELS[found[2]]), line)


def show_table(
    rows: Sequence[Sequence[str]],
    *,
    headings: Sequence[str] = (),
    right: Sequence[int] = (),
    styles: Mapping[str, str] = STATES,
    stream: TextIO | None = None,
) -> None:
    """Print rows in columns; ``right``: columns of numbers, ``styles``: cell -> style.

    A column without any text is left out. The last one is folded where the terminal is too narrow.
    """
    lines = [[printable(cell) for cell in row] for row in rows]
    used = [index for index in range(len(lines[0])) if any(row[index] for row in lines)] if lines else []
    if not used:
        return
    top = [[headings[index] for index in used]] if headings else []
    cells = [*top, *([row[index] for index in used] for row in lines)]
    aligned = [position for position, index in enumerate(used) if index in right]
    stream = stream or sys.stdout
    colour = styled(stream)
    for number, parts in enumerate(_layout(cells, aligned, columns(stream))):
        for line in parts:
            words = "".join(
                _styled_cell(cell, number < len(top), styles) if colour else cell for cell in line
            )
            print(words.rstrip(), file=stream)


def _styled_cell(cell: str, heading: bool, styles: Mapping[str, str]) -> str:
    word = cell.strip()
    style = BOLD if heading else styles.get(word, "")
    return cell.replace(word, paint(word, style), 1) if word and style else cell


def _layout(
    rows: Sequence[Sequence[str]], right: Sequence[int], width: int | None
) -> Iterator[list[list[str]]]:
    """For each row its lines, for each line its padded cells."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = None if width is None else width - before
    below = room is not None and room < min(_NARROWEST, widths[-1])
    for row in rows:
        padded = [
            (cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])) + "  "
            for column, cell in enumerate(row[:-1])
        ]
        last = row[-1].rjust(widths[-1]) if len(row) - 1 in right else row[-1]
        if below and width is not None:
            parts = folded(f"  {last}", width) if last else []
            yield [padded, *([part] for part in parts)]
            continue
        first, *rest = folded(last, room)
        yield [[*padded, first], *([" " * before, part.strip()] for part in rest)]
