"""What all commands share: common flags, one error handler, ``--json``, exit codes.

A command is a function ``(run, **its own flags) -> Report | None``. ``command`` turns
it into an Invoke task, adds the common flags that it asks for, prints its report and
maps errors to the documented exit codes. Everything heavy is imported inside commands,
because every ``inv`` pays for what this package imports.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from invoke import Argument, Context, Exit, ParseError, Task

from voiceops.cli import output
from voiceops.cli.arguments import refuse_flag_like
from voiceops.cli.invocation import Invocation
from voiceops.errors import InterruptedCommandError, UsageError, VoiceopsError
from voiceops.model.quoting import json_text, printable, printable_lines

if TYPE_CHECKING:
    from voiceops.wiring.project import Project

_COMMON: dict[str, tuple[object, str]] = {
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
_NO_MEANING = {
    "dry": "use --check where a command has it: it changes nothing and says what it would change",
    "echo": "use --debug to see what a command does",
    "hide": "use --json for a document, or --quiet where a command has it",
    "warn": "each command ends with its own exit code",
    "pty": "voiceops decides itself which program gets a terminal",
}
"""Options of Invoke that act on ``Context.run``, which our commands don't use: refused, not ignored."""
_FLAG_OF = {"warn": "warn-only"}
"""Settings of Invoke that have another name than their flag."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a command found or did: data for ``--json``, text for people, an exit code."""

    data: Mapping[str, object]
    """The JSON document without ``ok``; of our own commands a type of ``model/documents``."""
    text: str | Callable[[], str | None] = ""
    """Text for stdout, or a function that prints tables and returns what follows them."""
    exit_code: int = 0

    @property
    def document(self) -> dict[str, object]:
        """What ``--json`` prints: ``ok`` is true exactly when the exit code is 0."""
        return {"ok": self.exit_code == 0} | {key: one for key, one in self.data.items() if key != "ok"}


@dataclass(slots=True)
class CommandRun:
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
    invocation: Invocation = field(default_factory=Invocation)
    quiet: bool = False
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
            from voiceops.wiring.project import Project

            self._project = Project.load(
                inventory=self.inventory, host=self.host, group=self.group, limit=self.limit
            )
            for line in [] if self.quiet else self._project.notices():
                self.say(line)
        return self._project

    def say(self, line: str) -> None:
        """Progress for people, on stderr."""
        output.show(self.invocation.text(line), sys.stderr)


class NumberFlag:
    """Converts the value of a numeric flag; an error names the flag."""

    __name__ = "number"

    def __init__(self, flag: str, kind: type[int] | type[float]) -> None:
        self._flag = flag
        self._kind = kind

    def __call__(self, value: str) -> int | float:
        """Return the number; ``ParseError`` where it is none, is negative or has no end."""
        whole = "a whole number" if self._kind is int else "a number"
        try:
            number = self._kind(value)
        except ValueError:
            raise ParseError(f"--{self._flag} takes {whole}, not {value!r}") from None
        if not 0 <= number < float("inf"):
            raise ParseError(f"--{self._flag} takes {whole} from 0 upwards, not {value}")
        return number


class VoiceopsTask(Task):  # type: ignore[type-arg]
    """An Invoke task whose short flags are chosen, not guessed."""

    shorts: Mapping[str, str] = {"only": "o", "follow": "f", "json": "j", "limit": "l", "lines": "n"}
    group = ""
    """The heading under which the overview lists it."""
    rank = 0
    common: tuple[str, ...] = ()
    """The common flags that it takes."""

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, object]:
        opts: dict[str, Any] = super().arg_opts(name, default, taken_names)
        if name in self.shorts:
            opts["names"].append(self.shorts[name])
        if opts.get("kind") in (int, float):
            opts["kind"] = NumberFlag(name.strip("_").replace("_", "-"), opts["kind"])
        return opts

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """As Invoke's, but it can be asked twice: Invoke takes the help texts out of the task."""
        texts = dict(self.help)
        try:
            return super().get_arguments(ignore_unknown_help)
        finally:
            self.help = texts


def command(
    *flags: str,
    name: str | None = None,
    help: Mapping[str, str] | None = None,
    aliases: tuple[str, ...] = (),
    iterable: tuple[str, ...] = (),
    own_flags: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Report | None]], VoiceopsTask]:
    """Make an Invoke task of ``function(run, **own_flags)``; ``flags`` name common ones.

    With ``own_flags``, a dataclass whose fields are the command's own flags, it is ``function(run, own_flags(...))``.
    """
    wanted = (*ALWAYS, *flags)

    def decorate(function: Callable[..., Report | None]) -> VoiceopsTask:
        public_name = name or function.__name__.strip("_").replace("_", "-")
        parameters = list(inspect.signature(own_flags or function).parameters.values())
        own = parameters if own_flags else parameters[1:]
        required = [one.name for one in own if one.default is inspect.Parameter.empty]

        def body(context: Context, **arguments: Any) -> None:
            given = {flag: arguments.pop(flag) for flag in wanted}
            empty = [flag for flag in ("inventory", *TARGETS) if given.get(flag) == ""]
            run = CommandRun(
                **{flag: value for flag, value in given.items() if value is not None},
                empty=empty,
                invocation=_invocation(context, given),
                quiet=bool(arguments.get("quiet")),
            )

            def checked(run: CommandRun, **values: object) -> Report | None:
                refuse_core_options(context)
                named = [(flag, values[flag]) for flag in {*required, "room"} & set(values)]
                refuse_flag_like(public_name, named)
                return function(run, own_flags(**values)) if own_flags else function(run, **values)

            _execute(checked, run, arguments)

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
        task = VoiceopsTask(
            body,
            name=name,
            aliases=aliases,
            iterable=iterable,
            auto_shortflags=False,
            help=texts,
        )
        task.common = wanted
        return task

    return decorate


def refuse_core_options(context: Context) -> None:
    """Refuse the options of Invoke that would be without effect: ``inv --dry stop`` must not stop anything."""
    given = getattr(context.config, "_overrides", {})
    for option in given.get("run", {}):
        flag = _FLAG_OF.get(option, option)
        raise UsageError(f"--{flag} has no meaning for voiceops' commands", hint=_NO_MEANING.get(option))
    if given.get("timeouts", {}).get("command"):
        raise UsageError(
            "--command-timeout has no meaning for voiceops' commands",
            hint="use --timeout behind the command",
        )
    if given.get("sudo", {}).get("password"):
        raise UsageError(
            "--prompt-for-sudo-password has no meaning for voiceops' commands",
            hint="set ansible_become_password in the inventory, for example as {env: SUDO_PASSWORD}",
        )


def _invocation(context: Context, given: Mapping[str, Any]) -> Invocation:
    """How to write commands for whoever typed this one; plain ``inv`` where our program does not run."""
    typed = context.config.get("voiceops", {})
    flags = {flag: given[flag] for flag in ("inventory", *TARGETS) if given.get(flag)}
    accepts = {name: frozenset(flags) for name, flags in typed.get("accepts", {}).items()}
    return Invocation(program=typed.get("program", "inv"), flags=flags, accepts=accepts)


def _execute(function: Callable[..., Report | None], run: CommandRun, arguments: dict[str, object]) -> None:
    try:
        report = function(run, **arguments)
        if report is not None:
            print_report(report, run)
    except VoiceopsError as error:
        if run.debug:
            import traceback

            traceback.print_exc()
        show_error(error, as_json=run.json, invocation=run.invocation)
        raise Exit(code=error.exit_code) from None
    except KeyboardInterrupt:
        run.say("interrupted")
        if run.json:
            show_error(InterruptedCommandError("interrupted"), as_json=True)
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
        show_error(unexpected, as_json=run.json, invocation=run.invocation)
        raise Exit(code=1) from None
    if report is not None and report.exit_code:
        raise Exit(code=report.exit_code)


def print_report(report: Report, run: CommandRun) -> None:
    """Print it as text, or as JSON where that is asked for."""
    if run.json:
        print(json_text(run.invocation.data(report.document), indent=2))
    elif text := report.text() if callable(report.text) else report.text:
        output.show(run.invocation.text(text))
    sys.stdout.flush()


def show_error(error: VoiceopsError, *, as_json: bool, invocation: Invocation | None = None) -> None:
    """What failed, the last log lines that show it, and what to do next, on stderr."""
    invocation = invocation or Invocation()
    if as_json:
        print(json_text(invocation.data({"ok": False, "error": error.as_json()}), indent=2))
        return
    # A line break in a value must not begin a line that looks like one of ours.
    message = printable_lines(invocation.hint(error.message)).replace("\n", "\n  ")
    lines = [f"error: {message}", *(f"  | {printable(line)}" for line in error.log_tail)]
    if error.hint:
        lines.append(f"hint: {printable_lines(invocation.hint(error.hint))}")
    output.show("\n".join(lines), sys.stderr)


def names(value: str, flag: str = "--only") -> tuple[str, ...]:
    """Split a comma-separated flag, which an error names; an empty element is a typing mistake, not a name."""
    if not value:
        return ()
    parts = tuple(part.strip() for part in value.split(","))
    if not all(parts):
        raise UsageError(
            f"{flag} {value} has an empty name", hint="write names as a,b without blanks between commas"
        )
    return parts
