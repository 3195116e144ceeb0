"""How log lines look: on a terminal, in a file, as JSON."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from voiceops.cli import output
from voiceops.cli.command import CommandRun
from voiceops.commands.documents import host_failure
from voiceops.errors import VoiceopsError
from voiceops.model.quoting import json_text, printable, printable_lines
from voiceops.stack.logs.entry import entry_of, redacted, shown_fields
from voiceops.stack.logs.files import TimedLine, show_time, tells_time
from voiceops.util.terminal import ERROR, FAINT, WARNING, columns, paint, styled

if TYPE_CHECKING:
    from voiceops.model.documents.stack import LogLine

_SERVICE_COLOURS = ("36", "34", "35", "96", "94", "95")
"""Not red, yellow or green: those mean error, warning and ready in every command."""
_LEVEL_STYLES = {"error": ERROR, "warning": WARNING, "debug": FAINT}


def last(lines: Iterable[TimedLine], count: int) -> Iterable[TimedLine]:
    """The last ``count`` of them; 0: all, each as soon as it is read."""
    return deque(lines, maxlen=count) if count else lines


class LogPrinter:
    """Lines for a terminal, a file, or as JSON.

    A terminal shows what is not printable as escapes, unless ``raw``; files and pipes get the bytes that
    the services wrote.
    """

    def __init__(self, run: CommandRun, services: Sequence[str], *, raw: bool) -> None:
        self.shown_count = 0
        self._raw = raw
        self._json = run.json
        self._width = max(map(len, services), default=0)
        self._terminal = sys.stdout.isatty()
        self._styled = styled(sys.stdout)
        self._columns = None if raw else columns(sys.stdout)
        repeated = _SERVICE_COLOURS * (len(services) // len(_SERVICE_COLOURS) + 1)
        self._colours = dict(zip(services, repeated, strict=False))

    def fields(self, line: TimedLine) -> LogLine:
        text = line.text.encode(errors="surrogateescape").decode(errors="replace")
        host, _, service = line.service.rpartition(" ")
        entry: LogLine = {
            "at": show_time(line.at) if line.at else None,
            "service": service,
            "line": redacted(text),
        }
        if host:
            entry["host"] = host
        return entry

    def show_all(
        self, lines: Iterable[TimedLine], *, document: bool, errors: Mapping[str, VoiceopsError] | None = None
    ) -> None:
        """Each line as it comes; as JSON one ``document``, or one for each line.

        ``errors`` of hosts may grow while the lines are read; they end the document.
        """
        if not (self._json and document):
            for line in lines:
                self.show(line)
            return
        print('{\n  "lines": [', end="")
        between = "\n    "
        for line in lines:
            print(f"{between}{json_text(self.fields(line))}", end="")
            between = ",\n    "
        print("\n  ]", end="")
        if errors:
            hosts = {name: host_failure(error) for name, error in errors.items()}
            print(f',\n  "hosts": {json_text(hosts)}', end="")
        # Last, because the lines are printed as they are read: until then nobody knows.
        print(f',\n  "ok": {json_text(not errors)}\n}}')

    def show(self, line: TimedLine) -> None:
        """One line of a log; a message of several lines has the service before each."""
        self.shown_count += 1
        if self._json:
            print(json_text(self.fields(line)))
            return
        service = printable(line.service.ljust(self._width))
        prefix = paint(service, self._colours.get(line.service, "")) if self._styled else service
        text, level = (line.text, "") if self._raw else readable(line)
        text = redacted(text)
        if self._terminal and not self._raw:
            text = printable_lines(text.removesuffix("\r"))
        room = self._columns - len(service) - 3 if self._columns else None
        for number, part in enumerate(text.split("\n")):
            for index, piece in enumerate(output.folded(part, room)):
                shown = piece
                if self._styled and number == index == 0 and level in _LEVEL_STYLES:
                    shown = piece.replace(level, paint(level, _LEVEL_STYLES[level]), 1)
                whole = f"{prefix} | {shown}".encode(errors="surrogateescape")
                sys.stdout.buffer.write(whole + b"\n")


def readable(line: TimedLine) -> tuple[str, str]:
    """A structured line as date, level, message and its own fields, and its level; any other as it is."""
    entry = entry_of(line.text)
    if entry is None:
        if line.journaled and not tells_time(line.text):
            return f"{_clock(line.at)} {line.text}", ""
        return line.text, ""
    first, *more = [*entry.message.splitlines(), *entry.trace.splitlines()] or [""]
    fields = shown_fields(entry.fields)
    lines = [f"{_clock(line.at)} {entry.level:<7} {first} {fields}".rstrip(), *(f"  {one}" for one in more)]
    return "\n".join(lines), entry.level


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"
