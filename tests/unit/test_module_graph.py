"""The import graph of voiceops: no cycles, and imports inside functions only where they defer something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "voiceops"
MOST_LOCAL_IMPORTS = 150


def cycles() -> Iterator[list[str]]:
    """Every chain of imports that leads back to its beginning, those inside functions included."""
    graph = grimp.build_graph("voiceops", cache_dir=None)
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            chain = graph.find_shortest_chain(imported, module)
            if chain is not None:
                yield [module, *chain]


def local_imports() -> list[str]:
    """Each import inside of a function, as ``file:line``."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found |= {
                    f"{file.relative_to(PACKAGE)}:{node.lineno}"
                    for node in ast.walk(function)
                    if isinstance(node, (ast.Import, ast.ImportFrom))
                }
    return sorted(found)


@pytest.mark.timeout(120)
def test_no_module_imports_itself_by_way_of_others() -> None:
    assert list(cycles()) == []


def test_imports_inside_functions_stay_few() -> None:
    found = local_imports()
    assert found
    assert len(found) <= MOST_LOCAL_IMPORTS, found


def test_a_program_runs_only_when_all_of_its_module_is_defined() -> None:
    early = [
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for node in ast.parse(file.read_text()).body[:-1]
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
    ]
    assert early == []
