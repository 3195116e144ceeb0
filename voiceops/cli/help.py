"""Help pages: all commands in groups, one page for each command, from the same docstrings that Invoke reads."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from voiceops.cli.invocation import Invocation

if TYPE_CHECKING:
    from invoke import Argument, Collection, Task

OWN_GROUP = "commands of this project"
GROUPS = ("every day", "diagnosis", "rooms", "servers", "project", OWN_GROUP)
EXIT_CODES = """\
0    done, or nothing to do
1    something failed
2    not as declared (check-running, drift, --check)
3    bad configuration or arguments
4    somebody else holds the lock
5    a host or LiveKit can't be reached or refuses the credentials
130  interrupted"""


def overview(collection: Collection, invocation: Invocation) -> str:
    """All commands in their groups, one line each."""
    rows = {name: (_group(collection[name]), _short(collection[name])) for name in collection.task_names}
    width = max(len(name) for name in rows) + 2
    lines = [f"Usage: {invocation.program} COMMAND [SERVICE ...] [--flags]", ""]
    for group in GROUPS:
        members = {name: text for name, (of, text) in rows.items() if of == group}
        if not members:
            continue
        lines.append(f"{group[0].upper()}{group[1:]}:")
        for name, text in _in_order(collection, members):
            lines += _row(name, text, width)
        lines.append("")
    lines.append(invocation.hint("`inv help COMMAND` explains one command, `inv help --all` all of them."))
    return "\n".join(lines)


def page(name: str, collection: Collection, contexts: Iterable[Any], invocation: Invocation) -> str:
    """The page of one command: usage, what it does, its flags, examples, exit codes."""
    task = collection[name]
    context = next(one for one in contexts if name in (one.name, *one.aliases))
    text, examples = _parts(task)
    usage = [invocation.program, context.name, *(one.name.upper() for one in context.positional_args)]
    usage += ["[SERVICE ...]"] if "--only" in context.flags else []
    sections = [
        ("NAME", _filled(f"{', '.join([context.name, *context.aliases])} - {summary(task)}")),
        ("USAGE", " ".join([*usage, "[--flags]"])),
        ("DESCRIPTION", text),
        ("FLAGS", "\n".join(_flags(context)).rstrip()),
        ("EXAMPLES", "\n".join(map(invocation.command, examples))),
        ("EXIT CODES", EXIT_CODES),
    ]
    return "\n\n".join(f"{title}\n{textwrap.indent(body, '    ')}" for title, body in sections if body)


def pages(collection: Collection, contexts: Iterable[Any], invocation: Invocation) -> str:
    """The pages of all commands, one after the other."""
    names = [name for group in GROUPS for name in sorted(_named(collection, group))]
    return "\n\n\n".join(page(name, collection, contexts, invocation) for name in names)


def summary(task: Task[Any]) -> str:
    """The first sentence of a task's docstring, without its full stop."""
    first = (inspect.getdoc(task) or "").partition("\n")[0].strip()
    return first.removesuffix(".")


def _short(task: Task[Any]) -> str:
    """The summary up to its first colon, semicolon or question mark."""
    return re.split(r"(?<=\?) |[;:] ", summary(task), maxsplit=1)[0]


def _group(task: Task[Any]) -> str:
    return str(getattr(task, "group", "") or OWN_GROUP)


def _named(collection: Collection, group: str) -> list[str]:
    return [name for name in collection.task_names if _group(collection[name]) == group]


def _in_order(collection: Collection, members: dict[str, str]) -> list[tuple[str, str]]:
    """In the order in which the group was declared."""
    return sorted(members.items(), key=lambda row: (getattr(collection[row[0]], "rank", 0), row[0]))


def _parts(task: Task[Any]) -> tuple[str, list[str]]:
    """Description and example commands of a docstring."""
    document = inspect.getdoc(task) or ""
    before, _, after = document.partition("Example")
    found = re.sub(r"^s?:\s*", "", after).strip().removesuffix(".")
    examples = [one.strip() for one in found.split(", ") if one.strip().startswith("inv ")]
    paragraphs = [re.sub(r"\s+", " ", one).strip() for one in before.split("\n\n")]
    return "\n\n".join(map(_filled, filter(None, paragraphs))), examples


def _filled(text: str) -> str:
    """A paragraph of a page, which is indented by 4."""
    return textwrap.fill(text, _width() - 4)


def _flags(context: Any) -> Iterator[str]:
    for argument in sorted(context.args.values(), key=lambda one: str(one.name)):
        if argument.positional:
            continue
        names = sorted((one for one in argument.names), key=len, reverse=True)
        shown = ", ".join(f"--{one}" if len(one) > 1 else f"-{one}" for one in names)
        value = f" {_metavariable(argument)}" if argument.takes_value else ""
        yield from _row(f"{shown}{value}", str(argument.help or ""), 26)


def _metavariable(argument: Argument) -> str:
    return {str: "TEXT", list: "TEXT"}.get(argument.kind, "NUMBER")


def _row(name: str, text: str, width: int) -> Iterable[str]:
    # Pages are indented by 4, and the column begins at 2.
    lines = textwrap.wrap(text, max(_width() - width - 6, 30)) or [""]
    first = (
        f"  {name.ljust(width)}{lines[0]}"
        if len(name) < width
        else f"  {name}\n{' ' * (width + 2)}{lines[0]}"
    )
    return [first.rstrip(), *(" " * (width + 2) + line for line in lines[1:])]


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 110)
