"""The one file that is sent to hosts: the modules of ``onhost`` joined, without what only readers need.

``onhost`` keeps to the house's size of files; hosts get a single text of standard-library
Python 3.9, under 64 KiB, in the same exec that carries the desired state.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import io
import os
import re
import tokenize
import zlib
from pathlib import Path

from voiceops.util.caches import private_folder

MODULES = (
    "base", "channel", "journal", "hashes", "blobs", "paths", "host", "files", "accounts", "packages", "software", "system", "units", "main",
)  # fmt: skip
"""By floors: each uses only those before it."""
PROGRAMS = ("facts", "ledger", "ready", "services")
"""Modules of ``onhost`` that are sent or installed as programs of their own."""
LIMIT_BYTES = 64 * 1024

_INDENT = re.compile(r"^(?:    )+", re.MULTILINE)
_EMPTY_LINES = re.compile(r"\n\n+")

BOOT = """\
import gc,marshal,os,sys,zlib
gc.set_threshold(50000)
os.umask(18)
r=sys.stdin.buffer
m,p=sys.argv[1:]
v=sys.version_info
if v<(3,9):
 print(m+'["error",{"kind":"python","message":"%d.%d"}]'%v[:2])
 sys.exit()
z=r.read(int(r.readline()))
p+='-%d%d'%v[:2]
try:
 with open(p,'rb') as f:
  s=os.fstat(f.fileno())
  if s.st_uid!=os.geteuid() or s.st_mode&18:raise OSError
  c=marshal.loads(f.read())
except(OSError,ValueError,EOFError,TypeError):c=compile(zlib.decompress(z),'voiceops-payload','exec')
g={'__name__':'voiceops_payload','CODE':c}
exec(c,g)
g['main'](m,p)
sys.stdout.flush()
os._exit(0)
"""
"""What stands in the command line, with the mark of all frames and a place on the host as
arguments. It reads the payload and runs it. At the place an earlier run left the compiled payload: compiling is a third of a no-op's work on
the host. Only a file that nobody else could have written counts. Taking the interpreter apart would be
work for nothing. The umask is 022: root's own may be 077, and what is built would be root's alone. No secret
is ever part of this."""


class _Shorten(ast.NodeTransformer):
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


def shorten(text: str) -> str:
    """Return a module without what only readers and type checkers need; it still compiles on Python 3.9."""
    tree = _Shorten().visit(ast.parse(text))
    code = ast.unparse(ast.fix_missing_locations(tree))
    code = _INDENT.sub(lambda match: " " * (len(match[0]) // 4), code)
    return _squeeze(_EMPTY_LINES.sub("\n", code) + "\n")


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


@functools.lru_cache(maxsize=1)
def source() -> str:
    """The payload as text."""
    folder = Path(__file__).with_name("onhost")
    modules = ((folder / f"{name}.py").read_text(encoding="utf-8") for name in MODULES)
    lines = "".join(map(shorten, modules)).splitlines(keepends=True)
    once = dict.fromkeys(line for line in lines if line.startswith("import "))
    others = (line for line in lines if not line.startswith("import "))
    return "from __future__ import annotations\n" + "".join([*once, *others])


@functools.lru_cache(maxsize=1)
def _kept() -> tuple[str, bytes]:
    """Version and packed text, joined and packed once for each state of the modules, told by sizes and times."""
    folder = Path(__file__).with_name("onhost")
    files = [__file__, *(os.path.join(folder, f"{name}.py") for name in MODULES)]
    states = [os.stat(file) for file in files]
    stamp = hashlib.sha256(repr([(one.st_size, one.st_mtime_ns) for one in states]).encode()).hexdigest()
    cache = private_folder("payload")
    note = cache / stamp if cache else None
    if note is not None:
        with contextlib.suppress(OSError, ValueError):
            name, _, data = note.read_bytes().partition(b"\n")
            size, _, body = data.partition(b"\n")
            if len(body) == int(size):
                return name.decode(), data
    text = source().encode()
    body = zlib.compress(text, 9)
    made = hashlib.sha256(text).hexdigest()[:12], b"%d\n%s" % (len(body), body)
    if note is not None:
        with contextlib.suppress(OSError):  # a cache that can't be written costs time only
            fresh = note.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(made[0].encode() + b"\n" + made[1])
            fresh.replace(note)
            for other in set(note.parent.iterdir()) - {note}:  # of an older voiceops, or of a killed run
                other.unlink()
    return made


def packed() -> bytes:
    """The payload as it travels: its length in a line, then zlib."""
    return _kept()[1]


def version() -> str:
    """Names this very text of the payload."""
    return _kept()[0]
