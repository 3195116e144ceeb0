"""What all commands share: common flags, one error handler, ``--json``, exit codes.

A command is a function ``(run, **its own flags) -> Report | None``. ``command`` turns
it into an Invoke task, adds the common flags that it asks for, prints its report and
maps errors to the documented exit codes. Everything heavy is imported inside commands,
because every ``inv`` pays for what this package imports.
"""

from __future__ import annotations

import inspect
import json as jsonlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from invoke import Context, Exit, Task

from voiceops.errors import UsageError, VoiceopsError

if TYPE_CHECKING:
    from voiceops.wiring import Project

_COMMON: dict[str, tuple[Any, str]] = {
    "inventory": (None, "Inventory file, folder or executable (or VOICEOPS_INVENTORY)."),
    "host": (None, "Hosts of the inventory, comma-separated, or user@name[:port]."),
    "group": (None, "Group of the inventory."),
    "limit": (None, "Ansible host pattern."),
    "json": (False, "Print one JSON document on stdout, nothing else."),
    "debug": (False, "Show tracebacks and debug logs."),
    "timeout": (0.0, "Seconds that the whole command may take (0: its own default)."),
    "yes": (False, "Go ahead where live calls would be dropped."),
    "check": (False, "Change nothing; exit 2 if something would change."),
    "diff": (False, "Show what changes, line by line."),
}
ALWAYS = ("inventory", "json", "debug")
TARGETS = ("host", "group", "limit")


@dataclass(frozen=True, slots=True)
class Report:
    """What a command found or did: data for ``--json``, text for people, an exit code."""

    data: Mapping[str, Any]
    text: str | Callable[[], None] = ""
    """Text for stdout, or a function that prints (rich tables)."""
    exit_code: int = 0


@dataclass(slots=True)
class Run:
    """One invocation: the common flags and the project they select."""

    inventory: str = ""
    host: str = ""
    group: str = ""
    limit: str = ""
    json: bool = False
    debug: bool = False
    timeout: float = 0.0
    yes: bool = False
    check: bool = False
    diff: bool = False
    empty: list[str] = field(default_factory=list)
    """Flags that were given without a value, as by ``--host "$UNSET"``."""
    _project: Project | None = field(default=None, repr=False)

    @property
    def project(self) -> Project:
        """The configured project; loading it happens here, on first use."""
        if self._project is None:
            if self.empty:
                # Without the flag this machine is meant, and whoever wrote it did not mean this machine.
                raise UsageError(
                    f"--{self.empty[0]} is empty",
                    hint="was it an unset variable? leave the flag out, or name one",
                )
            from voiceops.wiring import Project

            self._project = Project.load(
                inventory=self.inventory, host=self.host, group=self.group, limit=self.limit
            )
        return self._project

    def say(self, line: str) -> None:
        """Progress for people, on stderr."""
        print(line, file=sys.stderr, flush=True)


class Command(Task):  # type: ignore[type-arg]
    """An Invoke task whose short flags are chosen, not guessed."""

    shorts: Mapping[str, str] = {"only": "o", "follow": "f", "json": "j", "limit": "l"}

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        opts: dict[str, Any] = super().arg_opts(name, default, taken_names)
        if name in self.shorts:
            opts["names"].append(self.shorts[name])
        return opts


def command(
    *flags: str,
    name: str | None = None,
    help: Mapping[str, str] | None = None,
    aliases: tuple[str, ...] = (),
    iterable: tuple[str, ...] = (),
) -> Callable[[Callable[..., Report | None]], Command]:
    """Make an Invoke task of ``function(run, **own_flags)``; ``flags`` name common ones."""
    wanted = (*ALWAYS, *flags)

    def decorate(function: Callable[..., Report | None]) -> Command:
        own = list(inspect.signature(function).parameters.values())[1:]

        def body(_context: Context, **arguments: Any) -> None:
            given = {flag: arguments.pop(flag) for flag in wanted}
            empty = [flag for flag in ("inventory", *TARGETS) if given.get(flag) == ""]
            run = Run(**{flag: value for flag, value in given.items() if value is not None}, empty=empty)
            _execute(function, run, arguments)

        body.__name__ = function.__name__
        body.__doc__ = function.__doc__
        body.__module__ = function.__module__
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter("context", keyword)]
            + [parameter.replace(kind=keyword, annotation=inspect.Parameter.empty) for parameter in own]
            + [inspect.Parameter(flag, keyword, default=_COMMON[flag][0]) for flag in wanted]
        )
        texts = {flag: _COMMON[flag][1] for flag in wanted} | dict(help or {})
        return Command(
            body,
            name=name,
            aliases=aliases,
            iterable=iterable,
            auto_shortflags=False,
            help=texts,
        )

    return decorate


def _execute(function: Callable[..., Report | None], run: Run, arguments: dict[str, Any]) -> None:
    try:
        report = function(run, **arguments)
        if report is not None:
            _print(report, as_json=run.json)
    except VoiceopsError as error:
        if run.debug:
            import traceback

            traceback.print_exc()
        show_error(error, as_json=run.json)
        raise Exit(code=error.exit_code) from None
    except KeyboardInterrupt:
        run.say("interrupted")
        raise Exit(code=130) from None
    except BrokenPipeError:
        # `inv logs | head` is a normal end; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Exit(code=0) from None
    except Exit:
        raise
    except Exception as error:
        if run.debug:
            raise
        unexpected = VoiceopsError(
            f"unexpected {type(error).__name__}: {error}",
            hint="this is a bug in voiceops; run again with --debug for the traceback",
        )
        show_error(unexpected, as_json=run.json)
        raise Exit(code=1) from None
    if report is not None and report.exit_code:
        raise Exit(code=report.exit_code)


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(jsonlib.dumps(report.data, indent=2, ensure_ascii=False, default=str))
    elif callable(report.text):
        report.text()
    elif report.text:
        print(report.text)
    sys.stdout.flush()


def show_error(error: VoiceopsError, *, as_json: bool) -> None:
    """What failed, the last log lines that show it, and what to do next, on stderr."""
    if as_json:
        print(jsonlib.dumps({"error": error.as_json()}, indent=2, ensure_ascii=False, default=str))
        return
    print(f"error: {error.message}", file=sys.stderr)
    for line in error.log_tail:
        print(f"  | {line}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)


def names(value: str) -> tuple[str, ...]:
    """Split a comma-separated flag; an empty element is a typing mistake, not a name."""
    if not value:
        return ()
    parts = tuple(part.strip() for part in value.split(","))
    if not all(parts):
        raise UsageError(f"empty name in {value!r}", hint="write names as a,b without blanks between commas")
    return parts
