"""How lines of logs look: on a terminal, in a file, as JSON."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from voiceops.cli.command import Run
from voiceops.commands.documents import host_failure
from voiceops.errors import VoiceopsError
from voiceops.model.quoting import json_text, printable, printable_lines
from voiceops.stack.logs.files import Line, show_time

if TYPE_CHECKING:
    from voiceops.model.documents.stack import LogLine

_COLOURS = ("36", "33", "35", "32", "34", "31")


def last(lines: Iterable[Line], count: int) -> Iterable[Line]:
    """The last ``count`` of them; 0: all, each as soon as it is read."""
    return deque(lines, maxlen=count) if count else lines


class Printer:
    """Lines for a terminal, a file, or as JSON.

    A terminal shows what is not printable as escapes, unless ``raw``; files and pipes get the bytes that
    the services wrote.
    """

    def __init__(self, run: Run, services: Sequence[str], *, raw: bool) -> None:
        self._raw = raw
        self._json = run.json
        self._width = max(map(len, services), default=0)
        self._terminal = sys.stdout.isatty()
        colours = dict(zip(services, _COLOURS * (len(services) // len(_COLOURS) + 1), strict=False))
        self._colours = colours if self._terminal else {}

    def fields(self, line: Line) -> LogLine:
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
        self, lines: Iterable[Line], *, document: bool, errors: Mapping[str, VoiceopsError] | None = None
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

    def show(self, line: Line) -> None:
        if self._json:
            print(json_text(self.fields(line)))
            return
        name = printable(line.service.ljust(self._width))
        colour = self._colours.get(line.service)
        text = redacted(line.text if self._raw else readable(line))
        if self._terminal and not self._raw:
            text = printable_lines(text.removesuffix("\r")).replace("\n", "\\n")
        shown = f"\033[{colour}m{name}\033[0m | {text}" if colour else f"{name} | {text}"
        sys.stdout.buffer.write(shown.encode(errors="surrogateescape") + b"\n")


_TOKEN = re.compile(r"eyJ[\w-]{10,}\.[\w-]+\.[\w-]*")
_MESSAGE_KEYS = ("message", "msg")
_DULL_KEYS = frozenset(
    {"level", "name", "logger", "caller", "pid", "ts", "timestamp", "exc_info", *_MESSAGE_KEYS}
    | {"code.file.path", "code.function.name", "code.line.number", "nodeID", "service", "remote"}
)
_LONGEST_VALUE = 120


def redacted(text: str) -> str:
    """livekit-server repeats a refused token in its log: nobody needs to see it again."""
    return _TOKEN.sub("[token]", text)


def readable(line: Line) -> str:
    """A structured line as time, level, message and its own fields; any other line as it is."""
    try:
        fields = json.loads(line.text) if line.text.startswith("{") else None
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not any(key in fields for key in _MESSAGE_KEYS):
        return line.text
    message = str(next(fields[key] for key in _MESSAGE_KEYS if key in fields))
    level = str(fields.get("level", "")).lower()
    clock = time.strftime("%H:%M:%S", time.localtime(line.at)) + f".{int(line.at % 1 * 1000):03d}"
    own = [
        f"{key}={_short(value)}"
        for key, value in fields.items()
        if key not in _DULL_KEYS and value not in ("", None, [], {})
    ]
    return " ".join([clock, f"{level:<7}", message, *own])


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = json.dumps(text, ensure_ascii=False) if " " in text or not text.isprintable() else text
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
