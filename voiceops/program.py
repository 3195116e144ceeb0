"""Invoke's command line with voiceops' manners: documented exit codes, a "did you mean", no
traceback for a typing mistake. A user's plain ``inv`` runs the same tasks without them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from invoke import Exit, Program
from invoke.exceptions import ParseError, UnexpectedExit

from voiceops import __version__
from voiceops.errors import ConfigError, UsageError, VoiceopsError
from voiceops.tasks.command import show_error


def run(arguments: Sequence[str], *, project: str | None = None) -> None:
    """Run one command line and exit; tasks.py is looked for from ``project`` upwards."""
    root = ["--search-root", project] if project else []
    program = VoiceopsProgram(name="voiceops", binary="inv", binary_names=["inv"], version=__version__)
    program.run(["inv", *root, *arguments])


class VoiceopsProgram(Program):
    """Invoke's program; what it prints and how it exits is ours."""

    def run(self, argv: Any = None, exit: bool = True) -> None:
        """Run; a mistake in the arguments exits 3, an interrupt 130."""
        code = 0
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
            show_error(error, as_json=bool({"--json", "-j"} & set(self.argv)))
            code = error.exit_code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = 130
        except BrokenPipeError:
            # `inv --list | head` is a normal end; Python would complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if exit or code:
            sys.exit(code)

    def _parse(self, argv: Any) -> None:
        try:
            self.create_config()
            self.parse_core(argv)
            self.parse_collection()
            self.parse_tasks()
            self.parse_cleanup()
        except ParseError as error:
            raise explain(error, getattr(self, "parser", None)) from None
        except ValueError as error:
            # A number was expected: Invoke lets int() and float() speak.
            raise UsageError(str(error), hint="see `inv TASK --help`") from None

    def parse_core(self, argv: Any) -> None:
        # Invoke switches the writing of bytecode off: every command would compile
        # voiceops again.
        before = sys.dont_write_bytecode
        try:
            super().parse_core(argv)
        finally:
            sys.dont_write_bytecode = before

    def load_collection(self) -> None:
        try:
            super().load_collection()
        except Exit as missing:
            if list(self.core.unparsed[:1]) == ["init"]:
                # There is no tasks.py before init has made it.
                from voiceops.tasks import namespace

                self.collection = namespace
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
        """``inv`` alone lists what there is."""
        self.list_tasks()
        raise Exit


def explain(error: ParseError, parser: Any) -> UsageError:
    """Invoke's parse error with the nearest task or flag as a hint."""
    message = str(error)
    unknown = re.fullmatch(r"No idea what (['\"])(.*)\1 is!", message, re.DOTALL)
    if unknown is None:
        # Invoke shows its own object: Flag <Argument: only (o)> needed value and was not given one!
        readable = re.sub(r"Flag <Argument: ([\w-]+)[^>]*>", _as_flag, message).rstrip("!")
        return UsageError(readable, hint="see `inv TASK --help`")
    token = unknown.group(2)
    context = error.context if error.context is not None and error.context.name else None
    if token.startswith("-"):
        flags = list(context.flags) if context else []
        where = f"inv {context.name}" if context else "inv"
        return UsageError(
            f"{where} has no flag {token}", hint=_nearest(token, flags) or f"see `{where} --help`"
        )
    if context is not None and "--only" in context.flags:
        return UsageError(
            f"{token!r} is no task", hint=f"services are named by --only: inv {context.name} --only {token}"
        )
    tasks = list(parser.contexts) if parser is not None else []
    return UsageError(f"{token!r} is no task", hint=_nearest(token, tasks) or "see `inv --list`")


def _as_flag(found: re.Match[str]) -> str:
    name = found.group(1)
    return f"--{name}" if len(name) > 1 else f"-{name}"


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib  # 2 ms that only a mistake pays for

    found = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {found[0]}?" if found else ""


def _broken_tasks(error: Exception) -> ConfigError:
    """A tasks.py that can't be imported: where, and what Python said."""
    if isinstance(error, SyntaxError):
        return ConfigError(f"tasks.py: {error.msg}", file=error.filename, line=error.lineno)
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return ConfigError(
        f"tasks.py can't be loaded: {type(error).__name__}: {error}",
        file=frame.tb_frame.f_code.co_filename if frame else None,
        line=frame.tb_lineno if frame else None,
        hint="run again with --debug for the traceback",
    )
