"""A task is flags, help and one call: what it does stands in voiceops/commands/."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LONGEST = 15
"""Lines of a task, its docstring included, its decorator not."""

TASKS = Path(__file__).resolve().parents[3] / "voiceops" / "tasks"


def functions() -> list[tuple[str, ast.FunctionDef]]:
    """Every function of the task modules, each with its name for messages."""
    return [
        (f"{file.name}: {node.name}", node)
        for file in sorted(TASKS.glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]


def imports(node: ast.AST) -> set[str]:
    """The modules that are imported anywhere below this node."""
    names = {one.module or "" for one in ast.walk(node) if isinstance(one, ast.ImportFrom)}
    return names | {name.name for one in ast.walk(node) if isinstance(one, ast.Import) for name in one.names}


def test_there_are_tasks() -> None:
    assert len(functions()) > 30


@pytest.mark.parametrize(("name", "function"), functions(), ids=[name for name, _ in functions()])
def test_a_task_is_short_and_makes_one_call(name: str, function: ast.FunctionDef) -> None:
    assert function.end_lineno is not None
    assert function.end_lineno - function.lineno + 1 <= LONGEST
    assert all(module.startswith("voiceops.commands") for module in imports(function))
    assert len([node for node in function.body if isinstance(node, (ast.ImportFrom, ast.Import))]) == 1


@pytest.mark.parametrize("file", sorted(TASKS.glob("*.py")), ids=lambda file: file.name)
def test_a_task_module_imports_the_command_line_alone(file: Path) -> None:
    body = ast.parse(file.read_text()).body
    at_top = [node for node in body if isinstance(node, (ast.ImportFrom, ast.Import))]
    allowed = ("voiceops.cli.", "voiceops.tasks.", "typing", "collections.abc", "invoke", "__future__")
    assert all(module.startswith(allowed) for node in at_top for module in imports(node))
