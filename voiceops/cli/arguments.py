"""Reads a command line before Invoke does: services as plain words, help wherever it stands, no flag as a name.

Invoke takes whatever follows a task with a missing positional argument as its value: ``rooms.dispatch --help``
would make a room named ``--help``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from voiceops.errors import UsageError

HELP = ("--help", "-h")


@dataclass(slots=True)
class TaskWords:
    """One task of a command line with what follows it."""

    name: str
    context: Any
    """Invoke's parser context of the task; None for a word that is no task."""
    words: list[str] = field(default_factory=list)
    """Flags with their values and positional arguments, as they were typed."""
    positional: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    """Plain words behind a task that takes ``--only``."""
    asks_help: bool = False
    pending: str = ""
    """The flag at the end of the line that still lacks its value."""

    @property
    def missing(self) -> list[str]:
        """Names of the positional arguments that are not given."""
        if self.context is None:
            return []
        typed = {word.partition("=")[0] for word in self.words}
        names = [one.name for one in self.context.positional_args if f"--{one.name}" not in typed]
        return names[len(self.positional) :]

    def tokens(self) -> list[str]:
        """The words for Invoke; services become ``--only``."""
        if not self.services:
            return [self.name, *self.words]
        kept, services = [], list(self.services)
        words = iter(self.words)
        for word in words:
            name, equals, value = word.partition("=")
            if name in ("--only", "-o"):
                services.append(value if equals else next(words, ""))
            else:
                kept.append(word)
        return [self.name, *kept, "--only", ",".join(services)]


def split(
    tokens: Sequence[str], contexts: Iterable[Any], *, is_service: Callable[[str], bool]
) -> list[TaskWords]:
    """Group a command line by its tasks.

    ``is_service`` is asked only about a word that could be both a task and a service: behind a task that
    takes ``--only``, the service is meant.
    """
    known = {name: context for context in contexts for name in (context.name, *context.aliases)}
    found: list[TaskWords] = []
    waiting = list(tokens)
    asks_help = False
    while waiting:
        token = waiting.pop(0)
        current = found[-1] if found else None
        if token == "--" and current is not None:
            current.words += [token, *waiting]
            break
        if token in HELP and not (current and current.context and token in current.context.flags):
            asks_help = asks_help or current is None
            if current is not None:
                current.asks_help = True
        elif current is None:
            found.append(TaskWords(token, known.get(token), asks_help=asks_help))
        elif current.context is None:
            current.words.append(token)
        elif token.startswith("-") and token != "-":
            _take_flag(current, token, waiting, known)
        elif current.missing:
            current.positional.append(token)
            current.words.append(token)
        elif "--only" in current.context.flags and (token not in known or is_service(token)):
            current.services += [part for part in token.split(",") if part]
        else:
            found.append(TaskWords(token, known.get(token)))
    return found


def _take_flag(current: TaskWords, token: str, waiting: list[str], known: Collection[str]) -> None:
    name, equals, _ = token.partition("=")
    flags = current.context.flags
    grouped = not name.startswith("--") and len(name) > 2 and name[:2] in flags
    if name not in flags and name not in current.context.inverse_flags and not grouped and current.missing:
        raise UsageError(
            f"{current.name} needs {current.missing[0].upper()}, and {token} is none of its flags",
            hint=f"see `inv help {current.name}`",
        )
    current.words.append(token)
    if grouped:  # as Invoke reads them: -fo VALUE is -f -o VALUE, and -oVALUE is -o VALUE
        name = "" if flags[name[:2]].takes_value else f"-{name[-1]}"
    # Not flags.get(): Invoke's Lexicon knows aliases only by subscript.
    argument = flags[name] if name in flags else None  # noqa: SIM401
    if argument is None or not argument.takes_value or equals:
        return
    following = waiting[0] if waiting else ""
    if argument.optional and (not following or following.startswith("-") or following in known):
        return
    if not waiting:
        current.pending = name
    elif following not in HELP:
        current.words.append(waiting.pop(0))


def refuse_flag_like(task: str, values: Collection[tuple[str, object]]) -> None:
    """Refuse names that begin with a dash: a flag was meant."""
    for name, value in values:
        if isinstance(value, str) and value.startswith("-"):
            raise UsageError(
                f"{name.upper()} can't be {value}: a name does not begin with a dash",
                hint=f"see `inv help {task}`",
            )
