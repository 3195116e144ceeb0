"""The programs that are sent to hosts, made from the modules of ``onhost``.

Each program is one text of standard-library Python 3.9, which travels in the exec that carries the request
and is kept compiled on the host. It has the modules that its verbs need and those that these import.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import zlib
from pathlib import Path

from voiceops.util.caches import private_folder

PROGRAMS = {
    "check": ("check", "host_facts"),
    "apply": ("apply",),
    "services": ("observe", "diagnosis", "releases", "unit_actions", "memory", "hold"),
}
"""Each program, with the modules that answer its verbs."""
INSTALLED = ("ready", "restart", "postgres", "takeover")
"""Modules that are installed on hosts as programs of their own."""
LIMIT_BYTES = 58_000
"""Of each program as text."""

ONHOST = Path(__file__).with_name("onhost")
PACKAGE = "voiceops.remote.onhost."

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
arguments. It reads the program and runs it. At the place an earlier run left the compiled program: compiling is a third of a no-op's work on
the host. Only a file that nobody else could have written counts. Taking the interpreter apart would be
work for nothing. The umask is 022: root's own may be 077, and what is built would be root's alone. No secret
is ever part of this."""


def module_text(module: str) -> str:
    """Return the text of a module of ``onhost``."""
    return (ONHOST / f"{module}.py").read_text(encoding="utf-8")


@functools.lru_cache(maxsize=len(PROGRAMS))
def source(program: str) -> str:
    """Return a program as text."""
    from voiceops.remote.shorten import join, with_imports  # a no-op takes the text from the cache

    return join(list(with_imports(("entry", *PROGRAMS[program]), PACKAGE, module_text).values()))


@functools.lru_cache(maxsize=len(PROGRAMS))
def packed(program: str) -> tuple[str, bytes]:
    """Return a program as it travels, its length in a line, then zlib; before it, a name for this very text.

    It is made once for each state of the modules, told by sizes and times.
    """
    files = sorted(ONHOST.glob("*.py"))
    states = [file.stat() for file in (Path(__file__), Path(__file__).with_name("shorten.py"), *files)]
    stamp = hashlib.sha256(repr([(one.st_size, one.st_mtime_ns) for one in states]).encode()).hexdigest()
    cache = private_folder("payload")
    note = cache / f"{program}-{stamp}" if cache else None
    if note is not None:
        with contextlib.suppress(OSError, ValueError):
            name, _, data = note.read_bytes().partition(b"\n")
            size, _, body = data.partition(b"\n")
            if len(body) == int(size):
                return name.decode(), data
    text = source(program).encode()
    body = zlib.compress(text, 9)
    made = hashlib.sha256(text).hexdigest()[:12], b"%d\n%s" % (len(body), body)
    if note is not None:
        with contextlib.suppress(OSError):  # a cache that can't be written costs time only
            fresh = note.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(made[0].encode() + b"\n" + made[1])
            fresh.replace(note)
            for other in set(note.parent.iterdir()) - {note}:  # of an older voiceops, or of a killed run
                if not other.name.endswith(stamp):
                    other.unlink()
    return made
