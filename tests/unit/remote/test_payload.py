"""The one file that travels: small, standard library only, valid on Python 3.9, and the same program."""

from __future__ import annotations

import ast
import dis
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tests.support import parts
from voiceops.adapters.process.local import LocalTransport
from voiceops.remote import payload, verbs
from voiceops.remote.shorten import join, with_imports
from voiceops.resources import Command, File, State, Symlink, Tree, apply, check, read_facts

ONHOST = payload.ONHOST
PROGRAMS = sorted(payload.PROGRAMS)


def modules(program: str) -> dict[str, str]:
    roots = ("entry", *payload.PROGRAMS[program])
    return with_imports(roots, payload.PACKAGE, payload.module_text)


def python39() -> str:  # noqa: RET503 - missing() does not return
    """An interpreter of the oldest supported version."""
    candidates = [shutil.which("python3.9"), *Path.home().glob(".pyenv/versions/3.9.*/bin/python")]
    for candidate in candidates:
        if candidate:
            answer = subprocess.run(
                [str(candidate), "--version"], capture_output=True, text=True, timeout=10, check=False
            )
            if answer.stdout.startswith("Python 3.9."):
                return str(candidate)
    parts.missing("python3.9", "the payload's oldest Python; install it beside the others")


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_keeps_its_limit(program: str) -> None:
    assert len(payload.source(program).encode()) <= payload.LIMIT_BYTES == 58_000


def test_every_module_of_the_folder_travels() -> None:
    sent = {name for program in PROGRAMS for name in modules(program)}
    assert {file.stem for file in ONHOST.glob("*.py")} - {"__init__"} == {*sent, *payload.INSTALLED}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_import_the_standard_library_only(program: str) -> None:
    assert imported(ast.parse(payload.source(program))) <= set(sys.stdlib_module_names)


def test_each_verb_is_answered_by_its_program_and_each_answer_has_its_verb() -> None:
    for program in PROGRAMS:
        names: dict[str, Any] = {"__name__": "voiceops_payload"}
        exec(compile(payload.source(program), program, "exec"), names)
        known = {verb.name for verb in verbs.VERBS if verb.program == program}
        # To observe is part of a check as well.
        assert set(names["VERBS"]) - {verbs.OBSERVE.name} == known - {verbs.OBSERVE.name}
        assert known <= set(names["VERBS"])
    assert len({verb.name for verb in verbs.VERBS}) == len(verbs.VERBS)


def test_modules_import_nothing_but_modules_that_travel_and_types() -> None:
    for file in set(ONHOST.glob("*.py")) - {ONHOST / "__init__.py"}:
        tree = ast.parse(file.read_text())
        at_run_time = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
        ours = {name for name in at_run_time if name.startswith("voiceops.")}
        assert all(name.startswith("voiceops.remote.onhost.") for name in ours), file.name
        inner = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset > 4]
        assert not inner, f"{file.name} imports from a module within a function"


def test_no_name_is_defined_twice_over_all_modules() -> None:
    names: Counter[str] = Counter()
    for file in ONHOST.glob("*.py"):
        if file.stem in payload.INSTALLED:
            continue
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names[node.name] += 1
            elif isinstance(node, ast.Assign):
                names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    assert [name for name, count in names.items() if count > 1 and name != "TYPE_CHECKING"] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_joined_programs_run_the_same_instructions(program: str) -> None:
    """Function by function: the same constants, names of attributes and globals, and operations."""
    joined = functions(compile(payload.source(program), "joined", "exec"))
    for name in modules(program):
        tree = WithoutTyping().visit(ast.parse((ONHOST / f"{name}.py").read_text()))
        for function, code in functions(compile(ast.fix_missing_locations(tree), name, "exec")).items():
            assert joined[function] == code, f"{name}{function}"


class WithoutTyping(ast.NodeTransformer):
    """Take out what joining may drop: docstrings, asserts, annotations."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if text else self.generic_visit(node)

    def visit_Assert(self, _node: ast.Assert) -> ast.AST:
        return ast.Pass()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return ast.Pass()
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node


def functions(code: CodeType, within: str = "") -> dict[str, Any]:
    """Each function by its place, without the names and positions of its local variables."""
    found: dict[str, Any] = {}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            place = f"{within}.{inner.co_name}"
            found |= functions(inner, place)
            local = {*inner.co_varnames, *inner.co_cellvars, *inner.co_freevars}
            steps = [
                (one.opname, "" if one.opcode in (*dis.haslocal, *dis.hasfree) else one.argval)
                for one in dis.get_instructions(inner)
                if one.opname not in ("NOP", "COPY_FREE_VARS", "MAKE_CELL", "EXTENDED_ARG")
                and not isinstance(one.argval, (int, CodeType, tuple))
            ]
            arguments = (inner.co_argcount, inner.co_kwonlyargcount, inner.co_flags, len(local))
            # Several of one name in one place, such as comprehensions, count in their order.
            found[place] = (found.get(place), steps, arguments)
    return found


def test_what_is_given_by_keyword_or_known_elsewhere_keeps_its_name() -> None:
    text = """
import os
LIMIT = 7
class Folder:
    def first(self, path, *, limit=LIMIT):
        'Text for readers.'
        def inner(name: str) -> str:
            return path + name
        try:
            return [inner(entry) for entry in os.listdir(path)][:limit]
        except OSError as error:
            return {"path": path, "error": f"{error.errno} in {path}"}
def second(folder: Folder) -> object:
    limit = 1
    return folder.first("/none", limit=limit)
"""
    joined = join([text])
    names: dict[str, Any] = {}
    exec(joined, names)
    assert names["second"](names["Folder"]()) == {"path": "/none", "error": "2 in /none"}
    assert "limit=" in joined
    assert "readers" not in joined
    assert len(joined) < len(text) * 0.8


def test_what_was_packed_before_is_taken_again_and_a_damaged_note_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def packed() -> tuple[str, bytes]:
        payload.packed.cache_clear()  # as the next command does
        return payload.packed("check")

    first = packed()
    (note,) = (tmp_path / "voiceops/payload").iterdir()
    monkeypatch.setattr(payload, "source", lambda program: "another text")
    assert packed() == first
    for damage in (b"", note.read_bytes()[:-1], b"no number\nhere\n"):
        note.write_bytes(damage)
        assert packed() != first
    payload.packed.cache_clear()


@pytest.mark.skipif(os.geteuid() != 0, reason="the payload runs as root")
def test_payload_works_on_python_3_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "folder", property(lambda self: str(tmp_path / "state")))
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text("a = 1\n")
    config = File(path=str(tmp_path / "file"), content="x" * 300_000)
    desired = State(
        "test",
        [
            config,
            Tree.of_folder(str(tmp_path / "tree"), tmp_path / "code"),
            Symlink(path=str(tmp_path / "link"), target="file"),
            Command(name="react", argv=["true"], on_change=[config]),
        ],
    )
    with closing(LocalTransport(python=python39())) as transport:
        assert read_facts(transport, "test")["python"][:2] == [3, 9]
        assert [apply(transport, desired).changed for _ in range(2)] == [4, 0]
        assert check(transport, desired, diff=True).as_declared
