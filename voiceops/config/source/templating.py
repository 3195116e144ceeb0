"""Jinja as templates of voiceops use it: strict, and compiled once per machine.

Compiling the templates of a host takes longer than rendering them. Jinja keeps the compiled form in the user's
cache, by the template's text; values, and with them secrets, are never part of it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voiceops.model.quoting import json_for_yaml
from voiceops.util.caches import private_folder

if TYPE_CHECKING:
    from jinja2 import BytecodeCache, Environment
    from jinja2.bccache import Bucket


def environment(folders: Sequence[Path]) -> Environment:
    """Templates below ``folders``, the first that has one wins; an undefined name is an error."""
    return _environment(tuple(str(folder) for folder in folders))


class Renderer:
    """Templates by name; the first of the folders that has one wins."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._templates = environment(folders)

    def __call__(self, name: str, values: Mapping[str, object]) -> str:
        return self._templates.get_template(name).render(values)


@functools.lru_cache(maxsize=8)
def _environment(folders: tuple[str, ...]) -> Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_compiled(),
    )
    made.filters["tojson"] = json_for_yaml
    return made


def _compiled() -> BytecodeCache | None:
    """The cache; None where it can't be ours alone, because what is in it gets executed."""
    from jinja2 import FileSystemBytecodeCache

    class Compiled(FileSystemBytecodeCache):
        def dump_bytecode(self, bucket: Bucket) -> None:
            with contextlib.suppress(OSError):  # a cache that can't be written costs time only
                super().dump_bytecode(bucket)

    # How a filter is called is compiled in: what is set up here names the place.
    this = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    folder = private_folder(f"templates/{this}")
    return Compiled(str(folder)) if folder else None
