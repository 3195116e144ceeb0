"""Invoke's command line as voiceops runs it: documented exit codes, a "did you mean", no
traceback for a typing mistake. A user's plain ``inv`` runs the same tasks without them.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from invoke import Argument, Collection, Exit, Program
from invoke.config import Config, merge_dicts
from invoke.exceptions import ParseError, UnexpectedExit
from invoke.parser import Parser
from invoke.parser.context import ParserContext

from voiceops import __version__
from voiceops.cli import help as help_pages
from voiceops.cli.arguments import split
from voiceops.cli.command import TARGETS, NumberFlag, show_error
from voiceops.cli.completion import REQUEST, candidates
from voiceops.cli.invocation import Invocation
from voiceops.errors import ConfigError, UsageError, VoiceopsError
from voiceops.util.suggest import closest

_WITHOUT_PROJECT: tuple[list[str], ...] = (["init"], ["completion"], ["help"], [])


def run(
    arguments: Sequence[str],
    *,
    project: str | None = None,
    program: str = "inv",
    tasks: Callable[[], Collection],
) -> None:
    """Run one command line and exit; tasks.py is looked for from ``project`` upwards.

    ``program`` is the word that was typed, for hints; ``tasks`` gives the tasks where no tasks.py is needed.
    """
    root = ["--search-root", project] if project else []
    ours = VoiceopsProgram(name="voiceops", binary="inv", binary_names=["inv"], version=__version__)
    ours.typed = program
    ours.packaged_tasks = tasks
    ours.run(["inv", *root, *arguments])


class VoiceopsProgram(Program):
    """Invoke's program; what it prints and how it exits is ours."""

    typed = "inv"
    packaged_tasks: Callable[[], Collection] | None = None
    contexts: list[ParserContext] | None = None
    last_task = ""
    """The last task of the command line, for hints about its flags."""

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:
        """Run; a mistake in the arguments exits 3, an interrupt 130."""
        code = 0
        words = list(sys.argv if argv is None else argv)
        if REQUEST in words:
            asked = words.index(REQUEST)
            self._complete(words[:asked], words[asked + 1 :])
            return
        try:
            self._parse(argv)
            self.update_config()
            self.execute()
        except Exit as ending:
            if ending.message:
                print(ending.message, file=sys.stderr)
            code = ending.code
        except UnexpectedExit as failure:
            # A user's own task whose command failed.
            if failure.result.hide:
                print(failure, file=sys.stderr, end="")
            code = failure.result.exited
        except VoiceopsError as error:
            show_error(error, as_json=bool({"--json", "-j"} & set(self.argv)), invocation=self.invocation)
            code = error.exit_code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = 130
        except BrokenPipeError:
            # `inv --list | head` is a normal end; Python would complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if exit or code:
            sys.exit(code)

    def core_args(self) -> list[Argument]:
        """Invoke's core options; an error in a number names its flag."""
        options: list[Argument] = super().core_args()
        for option in options:
            if option.kind is int:
                option.kind = NumberFlag(str(option.name), int)
        return options

    def create_config(self) -> None:
        """Invoke's configuration, and what commands need to know of how they were started."""
        self.config = self.config_class(
            defaults=merge_dicts(
                Config.global_defaults(), {"voiceops": {"program": self.typed, "accepts": {}}}
            )
        )

    def _parse(self, argv: list[str] | None) -> None:
        try:
            self.create_config()
            self.parse_core(argv)
            self.parse_collection()
            self._arrange()
            self.parse_tasks()
            self.parse_cleanup()
        except ParseError as error:
            raise explain(error, getattr(self, "parser", None), self.last_task) from None
        except ValueError as error:
            # A task of the user's own wants a number: Invoke lets int() speak.
            raise UsageError(str(error), hint="see `inv help`") from None

    def _arrange(self) -> None:
        """Read the words behind the core options: help wins, services may stand as plain words."""
        self._make_parser()
        assert self.contexts is not None
        self.config["voiceops"]["accepts"] = {
            name: [
                flag
                for flag in ("inventory", *TARGETS)
                if flag in getattr(self.collection[name], "common", ())
            ]
            for name in self.collection.task_names
        }
        tokens = list(self.core.unparsed)
        if tokens[:1] == ["help"]:
            self._help(tokens[1:])
        tasks = split(tokens, self.contexts, is_service=_is_service)
        self.last_task = tasks[-1].name if tasks else ""
        for words in tasks:
            if words.asks_help and (words.context is not None or words.name):
                self.print_task_help(words.name)
                raise Exit
        self.core.unparsed = [token for words in tasks for token in words.tokens()]

    def _complete(self, core: Sequence[str], words: Sequence[str]) -> None:
        """Print what can stand at the cursor, a word a line; a shell that waits gets no error."""
        with contextlib.suppress(VoiceopsError, Exit, ParseError, ValueError):
            self.create_config()
            self.parse_core(list(core))
            self.parse_collection()
            for word in candidates(words, self._contexts(), _names_of):
                print(word)

    def _help(self, words: Sequence[str]) -> NoReturn:
        """``help``, ``help TASK`` and ``help --all``."""
        assert self.contexts is not None
        if "--all" in words:
            print(help_pages.pages(self.collection, self.contexts, self.invocation))
        elif named := [word for word in words if not word.startswith("-")]:
            self.print_task_help(named[0])
        else:
            self.print_help()
        raise Exit

    def _make_parser(self) -> Parser:
        # Once: Invoke takes the help texts out of the tasks while it makes their contexts.
        if self.contexts is None:
            ignore = self.config.tasks.ignore_unknown_help
            self.contexts = self.collection.to_contexts(ignore_unknown_help=ignore)
        return Parser(initial=self.initial_context, contexts=self.contexts)

    @property
    def invocation(self) -> Invocation:
        """How the program was started; what a task was told of is not known here."""
        return Invocation(program=self.typed)

    def print_help(self) -> None:
        """All commands in groups."""
        print(help_pages.overview(self.collection, self.invocation))

    def print_task_help(self, name: str) -> None:
        """The page of one command."""
        if name not in {one for context in self._contexts() for one in (context.name, *context.aliases)}:
            raise ParseError(f"No idea what '{name}' is!")
        print(help_pages.page(name, self.collection, self._contexts(), self.invocation))

    def _contexts(self) -> list[ParserContext]:
        self._make_parser()
        return self.contexts or []

    def parse_core(self, argv: list[str] | None) -> None:
        # Invoke switches the writing of bytecode off: every command would compile
        # voiceops again.
        before = sys.dont_write_bytecode
        try:
            super().parse_core(argv)
        finally:
            sys.dont_write_bytecode = before
        config = self.args.config.value
        if config and not os.path.exists(config):  # Invoke goes on without it
            raise UsageError(f"--config {config}: there is no such file")

    def load_collection(self) -> None:
        try:
            super().load_collection()
        except Exit as missing:
            if self.packaged_tasks is not None and list(self.core.unparsed[:1]) in _WITHOUT_PROJECT:
                # There is no tasks.py before init has made it.
                self.collection = self.packaged_tasks()
                return
            raise ConfigError(
                f"no tasks.py in {self.args['search-root'].value or 'this folder'} or above it",
                hint="run `voiceops init` to start a project here, or name its folder: --search-root DIR",
            ) from missing
        except VoiceopsError:
            raise
        except Exception as error:
            if self.args.debug.value or "--debug" in self.argv:
                raise
            raise _broken_tasks(error) from error

    def no_tasks_given(self) -> None:
        """``inv`` alone shows what there is."""
        self.print_help()
        raise Exit


def _names_of(what: str) -> tuple[str, ...]:
    # Only a word that may be a name needs the inventory.
    from voiceops.cli.names import project_names

    return tuple(project_names(what))


def _is_service(word: str) -> bool:
    try:
        return word in _names_of("service")
    except VoiceopsError:
        return False  # the task itself says what is wrong with the inventory


def explain(error: ParseError, parser: Parser | None, task: str = "") -> UsageError:
    """Invoke's parse error with the nearest task or flag as a hint."""
    message = str(error)
    unknown = re.fullmatch(r"No idea what (['\"])(.*)\1 is!", message, re.DOTALL)
    named = error.context.name if error.context is not None and error.context.name else task
    if missing := re.fullmatch(r"'[^']*' did not receive required positional arguments: (.*)", message):
        wanted = missing[1].replace("'", "").upper().replace(", ", " ")
        return UsageError(
            f"{named} needs {wanted}", hint=f"type `inv {named} {wanted}`, or see `inv help {named}`"
        )
    if lacking := re.fullmatch(
        r"Flag <Argument: ([\w-]+)[^>]*> needed value and was not given one!", message
    ):
        where = f"{named}: " if named else ""
        return UsageError(
            f"{where}{_as_flag(lacking)} needs a value",
            hint=f"see `inv help {named}`" if named else "see `inv help`",
        )
    if unknown is None:
        # Invoke shows its own object: Flag <Argument: only (o)> needed value and was not given one!
        readable = re.sub(r"Flag <Argument: ([\w-]+)[^>]*>", _as_flag, message).rstrip("!")
        return UsageError(readable, hint=f"see `inv help {named}`" if named else "see `inv help`")
    token = unknown.group(2)
    context = error.context if error.context is not None and error.context.name else None
    if token.startswith("-"):
        flags = list(context.flags) if context else []
        where = f"inv {context.name}" if context else "inv"
        return UsageError(
            f"{where} has no flag {token}",
            hint=_nearest(token, flags) or f"see `inv help{f' {context.name}' if context else ''}`",
        )
    tasks = list(parser.contexts) if parser is not None else []
    return UsageError(f"{token!r} is no command", hint=_nearest(token, tasks) or "see `inv help`")


def _as_flag(found: re.Match[str]) -> str:
    name = found.group(1)
    return f"--{name}" if len(name) > 1 else f"-{name}"


def _nearest(word: str, known: Iterable[str]) -> str:
    # Every other short flag is one letter away.
    best = closest(word, known) if len(word.lstrip("-")) > 2 else None
    return f"did you mean {best}?" if best else ""


def _broken_tasks(error: Exception) -> ConfigError:
    """A tasks.py that can't be imported: where, and what Python said."""
    if isinstance(error, SyntaxError):
        return ConfigError(
            f"tasks.py can't be loaded: {error.msg}",
            file=error.filename,
            line=error.lineno,
            hint="correct that line, and run the command again",
        )
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return ConfigError(
        f"tasks.py can't be loaded: {type(error).__name__}: {error}",
        file=frame.tb_frame.f_code.co_filename if frame else None,
        line=frame.tb_lineno if frame else None,
        hint="run again with --debug for the traceback",
    )
