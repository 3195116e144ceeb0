"""The one file that travels: small, standard library only, valid on Python 3.9, and the same program."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import parts
from voiceops.adapters.process.local import LocalTransport
from voiceops.remote import payload
from voiceops.resources import Command, File, State, Symlink, Tree, apply, check, read_facts

ONHOST = Path(payload.__file__).with_name("onhost")


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


def modules() -> dict[str, ast.Module]:
    return {name: ast.parse((ONHOST / f"{name}.py").read_text()) for name in payload.MODULES}


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_payload_is_smaller_than_64_kib() -> None:
    assert len(payload.source().encode()) < payload.LIMIT_BYTES


def test_every_module_of_the_folder_travels() -> None:
    assert {file.stem for file in ONHOST.glob("*.py")} - {"__init__"} == {*payload.MODULES, *payload.PROGRAMS}


def test_joined_payload_imports_the_standard_library_only() -> None:
    assert imported(ast.parse(payload.source())) <= set(sys.stdlib_module_names)


def test_modules_import_only_those_that_are_joined_before_them() -> None:
    for name, tree in modules().items():
        earlier = payload.MODULES[: payload.MODULES.index(name)]
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("voiceops."):
                assert (node.module or "").rsplit(".", 1)[1] in earlier, f"{name} imports {node.module}"


def test_no_name_is_defined_twice_over_all_modules() -> None:
    names: Counter[str] = Counter()
    for tree in modules().values():
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names[node.name] += 1
            elif isinstance(node, ast.Assign):
                names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    assert [name for name, count in names.items() if count > 1 and name != "TYPE_CHECKING"] == []


def test_joining_drops_only_what_does_nothing_when_it_runs() -> None:
    def program(tree: ast.Module) -> list[str]:
        kept = []
        for node in tree.body:
            inner = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                ("voiceops.", "__future__")
            )
            typing = isinstance(node, (ast.Assign, ast.If)) and "TYPE_CHECKING" in ast.dump(node)
            if not inner and not typing and not _is_text(node):
                kept.append(ast.unparse(_without_texts(node)))
        return kept

    def apart(lines: list[str]) -> tuple[set[str], list[str]]:
        """Imports, of which one is enough, and all else."""
        imports = [line for line in lines if line.startswith("import ")]
        return set(imports), [line for line in lines if line not in imports]

    joined = program(ast.parse(payload.source()))
    assert apart(joined) == apart([line for tree in modules().values() for line in program(tree)])
    assert len(joined) == len(set(joined))


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _assigned(node: ast.stmt) -> ast.stmt:
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)
    return node


def _without_texts(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [child for child in body if not _is_text(child)]  # type: ignore[attr-defined]
            node.body = [_assigned(child) for child in node.body]  # type: ignore[attr-defined]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return tree


def test_what_was_packed_before_is_taken_again_and_a_damaged_note_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def kept() -> tuple[str, bytes]:
        payload._kept.cache_clear()  # as the next command does
        return payload._kept()

    first = kept()
    (note,) = (tmp_path / "voiceops/payload").iterdir()
    monkeypatch.setattr(payload, "source", lambda: "another text")
    assert kept() == first
    for damage in (b"", note.read_bytes()[:-1], b"no number\nhere\n"):
        note.write_bytes(damage)
        assert kept() != first
    payload._kept.cache_clear()


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
