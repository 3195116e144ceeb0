"""Hints are commands that can be pasted: the program as it was typed, with the flags of this run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import voiceops
from voiceops.cli.invocation import Invocation, program_as_typed
from voiceops.tasks import namespace

TYPED = Invocation(
    program="./inv",
    flags={"inventory": "my inventory.yaml", "host": "web1"},
    accepts={
        "start": frozenset({"inventory", "host"}),
        "call": frozenset({"inventory", "host"}),
        "init": frozenset({"inventory"}),
    },
)
INVENTORY = "--inventory 'my inventory.yaml'"


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        ("inv start --only agent", f"./inv start --only agent {INVENTORY} --host web1"),
        ("inv start --host web2", f"./inv start --host web2 {INVENTORY}"),
        (
            "inv start && inv call",
            f"./inv start {INVENTORY} --host web1 && ./inv call {INVENTORY} --host web1",
        ),
        ("inv init", f"./inv init {INVENTORY}"),
        ("inv help start", "./inv help start"),
        ("timedatectl set-ntp true", "timedatectl set-ntp true"),
        ("sudo inventory start", "sudo inventory start"),
    ],
)
def test_a_command_names_the_program_and_the_flags_of_this_run(command: str, typed: str) -> None:
    assert TYPED.command(command) == typed


def test_only_quoted_commands_of_a_sentence_change() -> None:
    plain = Invocation(program="./inv")
    assert plain.hint("inv is short; run `inv start` first") == "inv is short; run `./inv start` first"


def test_reports_and_documents_change_where_commands_stand() -> None:
    plain = Invocation(program="voiceops")
    assert plain.text("error: x\n  fix: inv start\n| inv start in a log") == (
        "error: x\n  fix: voiceops start\n| inv start in a log"
    )
    assert plain.data(
        {"findings": [{"fix": "inv start", "evidence": ["inv start"]}], "hint": "try `inv why`"}
    ) == {
        "findings": [{"fix": "voiceops start", "evidence": ["inv start"]}],
        "hint": "try `voiceops why`",
    }


def test_the_program_is_named_as_typed_or_by_its_name_where_path_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "inv"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program_as_typed(str(program)) == "inv"
    assert program_as_typed("./inv") == "./inv"
    assert program_as_typed("../my project/inv") == "'../my project/inv'"


def test_a_fix_that_is_a_sentence_has_its_commands_rewritten_in_reports_and_documents() -> None:
    fix = "correct agent.py:3, then `inv start`"
    assert TYPED.text(f"  fix: {fix}").endswith(f"then `./inv start {INVENTORY} --host web1`")
    typed = f"correct agent.py:3, then `./inv start {INVENTORY} --host web1`"
    assert TYPED.data({"fix": fix}) == {"fix": typed}
    assert (
        TYPED.text(f"fix: inv start; then {fix}") == f"fix: ./inv start {INVENTORY} --host web1; then {typed}"
    )


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string of a module but its docstrings; what is put into an f-string is ``{}``."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(getattr(part, "value", "{}")) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | parts:
            yield node.lineno, node.value


def test_commands_inside_sentences_stand_between_backquotes() -> None:
    tasks = "|".join(re.escape(name) for name in sorted(namespace.task_names, key=len, reverse=True))
    bare = re.compile(rf"\S.*(?<![\w./`])inv (?:{tasks})(?![\w-])", re.DOTALL)
    package = Path(voiceops.__file__).parent
    found = [
        f"{path.relative_to(package)}:{line}: {text}"
        for path in sorted(package.rglob("*.py"))
        for line, text in literals(ast.parse(path.read_text()))
        if bare.search(re.sub(r"`[^`]*`", "", text)) and " && " not in text
    ]
    assert found == []
