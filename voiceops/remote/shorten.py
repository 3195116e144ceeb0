"""Shorten the text of Python modules without changing what they do, and join modules into one text.

All of it works on the syntax tree. What goes: docstrings, annotations, imports for type checkers and between
the modules, indentation, blanks between tokens, and the length of local names. Names of functions, classes,
attributes and keyword arguments stay: a traceback from a host can be read.
"""

from __future__ import annotations

import ast
import builtins
import io
import itertools
import keyword
import re
import string
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

_INDENT = re.compile(r"^(?:    )+", re.MULTILINE)
_EMPTY_LINES = re.compile(r"\n\n+")


class _Strip(ast.NodeTransformer):
    """Drop what does nothing at run time: docstrings, annotations, imports for types and between our modules."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def visit_Assert(self, _node: ast.Assert) -> None:
        """Asserts tell type checkers what is known."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if (node.module or "").startswith(("voiceops.", "__future__")) else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if "TYPE_CHECKING" in ast.unparse(node.targets[0]) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(getattr(node, "body", None), list) and not isinstance(node, ast.Module):
            node.body = node.body or [ast.Pass()]  # type: ignore[attr-defined]
        return node


class _Rename(ast.NodeTransformer):
    """Give the local names of one function others."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._names.get(node.arg, node.arg)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        if node.name:
            node.name = self._names.get(node.name, node.name)
        return node


def with_imports(roots: Sequence[str], package: str, text_of: Callable[[str], str]) -> dict[str, str]:
    """Return modules of ``package`` with those that they import, each after its own imports, and their texts."""
    ordered: dict[str, str] = {}

    def visit(name: str) -> None:
        if name in ordered:
            return
        text = text_of(name)
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
                visit((node.module or "").removeprefix(package))
        ordered[name] = text

    for root in roots:
        visit(root)
    return ordered


def join(texts: Sequence[str]) -> str:
    """Return modules, each after those that it imports, as one text; every name of theirs is unique."""
    tree = ast.Module(body=[], type_ignores=[])
    imports: dict[str, ast.stmt] = {}
    for text in texts:
        for node in _Strip().visit(ast.parse(text)).body:
            if isinstance(node, ast.Import):
                imports[ast.unparse(node)] = node
            else:
                tree.body.append(node)
    _shorten_names(tree)
    tree.body[:0] = [imports[line] for line in sorted(imports)]
    code = ast.unparse(ast.fix_missing_locations(tree))
    code = _INDENT.sub(lambda match: " " * (len(match[0]) // 4), code)
    return "from __future__ import annotations\n" + _squeeze(_EMPTY_LINES.sub("\n", code) + "\n")


def _shorten_names(tree: ast.Module) -> None:
    """Shorten the local names of all functions; what is given by keyword anywhere keeps its name."""
    given = {word.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords}
    taken = {*dir(builtins), *keyword.kwlist, *_module_names(tree)}
    for node in tree.body:
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(part, ast.FunctionDef):
                _Rename(_local_names(part, given, taken)).visit(part)


def _module_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
    for inner in ast.walk(tree):
        if isinstance(inner, ast.alias):  # an import within a function as well
            yield (inner.asname or inner.name).partition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _local_names(function: ast.FunctionDef, given: set[str | None], taken: set[str]) -> dict[str, str]:
    """Return a short name for each local one, of inner functions too: one name means one thing in all of them."""
    used: Counter[str] = Counter()
    local: set[str] = set()
    fixed: set[str] = set(taken)
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            used[node.id] += 1
            if isinstance(node.ctx, ast.Store):
                local.add(node.id)
        elif isinstance(node, ast.arg):
            used[node.arg] += 1
            local.add(node.arg)
            if node.arg in given:
                fixed.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            used[node.name] += 1
            local.add(node.name)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            fixed.update(node.names)
        elif isinstance(node, ast.FunctionDef):
            fixed.add(node.name)
    renamed = [name for name, _ in used.most_common() if name in local - fixed]
    short = (name for name in _short_names() if name not in fixed and name not in used.keys() - set(renamed))
    return dict(zip(renamed, short, strict=False))


def _short_names() -> Iterator[str]:
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))


def _squeeze(code: str) -> str:
    """Drop the blanks between tokens that mean the same without."""
    lines = code.splitlines(keepends=True)
    squeezed: list[str] = []
    row, column, within = 1, 0, 0
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.start[0] != row:
            row, column = token.start[0], 0
        line = lines[row - 1] if row <= len(lines) else ""
        gap = line[column : token.start[1]]
        before, after = squeezed[-1][-1:] if squeezed else "", line[token.start[1] : token.start[1] + 1]
        word = re.match(r"\w[\w'\"]", before + after)
        # The parts of an f-string are tokens of their own since Python 3.12: its blanks stay.
        squeezed.append(gap if word or within or not column else gap.strip(" "))
        within += {"FSTRING_START": 1, "FSTRING_END": -1}.get(tokenize.tok_name[token.type], 0)
        if token.end[0] == row:
            squeezed.append(line[token.start[1] : token.end[1]])
        else:
            squeezed.append(token.string)
        row, column = token.end
    return "".join(squeezed)
