"""How this run was started, so that hints are commands that can be pasted."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TASK = re.compile(r"(?<![\w./-])inv (?=(?:--?[\w-]+|[a-z][\w.-]*)\b)([a-z][\w.-]*)?")
_QUOTED = re.compile(r"`(inv [^`]+)`")
_COMMAND_LINE = re.compile(r"^(\s*(?:fix|next|hint|done|not done): )(inv .*)$", re.MULTILINE)
_BETWEEN = re.compile(r"( && |; then )")
_COMMAND_KEYS = frozenset({"fix", "command", "next"})
_TARGETS = ("host", "group", "limit")


@dataclass(frozen=True, slots=True)
class Invocation:
    """The program as it was typed and the flags that chose what it acts on."""

    program: str = "inv"
    flags: Mapping[str, str] = field(default_factory=dict)
    """Flag -> value of ``--inventory``, ``--host``, ``--group`` and ``--limit``, where given."""
    accepts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Task -> the flags that it takes."""

    def command(self, text: str) -> str:
        """Return commands such as ``inv stop && inv start`` as they have to be typed here."""
        return "".join(self._one(part) for part in _BETWEEN.split(text))

    def hint(self, text: str) -> str:
        """Return a sentence with the commands between backquotes as they have to be typed here."""
        return _QUOTED.sub(lambda found: f"`{self.command(found[1])}`", text)

    def text(self, text: str) -> str:
        """Return a report with its ``fix:`` lines and quoted commands as they have to be typed here."""
        return _COMMAND_LINE.sub(lambda found: found[1] + self.command(found[2]), self.hint(text))

    def data(self, value: object, key: str = "") -> object:
        """Return a JSON document with its commands and hints as they have to be typed here."""
        if isinstance(value, Mapping):
            return {name: self.data(one, name) for name, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.data(one, key) for one in value]
        if isinstance(value, str) and key == "hint":
            return self.hint(value)
        if isinstance(value, str) and key in _COMMAND_KEYS:
            return self.command(self.hint(value))
        return value

    def _one(self, command: str) -> str:
        found = _TASK.match(command)
        if found is None:
            return command
        task, rest = found[1] or "", command[found.end() :]
        accepted = self.accepts.get(task, frozenset())
        targeted = re.search(r"--(host|group|limit)\b", rest) is not None
        added = "".join(
            f" --{flag} {shlex.quote(value)}"
            for flag, value in self.flags.items()
            if flag in accepted and f"--{flag}" not in rest and not (targeted and flag in _TARGETS)
        )
        return f"{self.program} {task}{rest}{added}"


def program_as_typed(started_as: str) -> str:
    """Return the word that starts this program again: ``inv`` if PATH finds it, else the path as typed."""
    name = Path(started_as).name
    on_path = shutil.which(name)
    if on_path is not None and "/" in started_as and Path(on_path) == Path(started_as).absolute():
        return name
    return shlex.quote(started_as)
