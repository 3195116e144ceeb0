"""host_vars/ and group_vars/ beside the inventory: files, or folders of files, for a name."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal

from voiceops.config.inventory.model import FileVars
from voiceops.config.source.located import LocatedMapping, SourceLocation
from voiceops.config.source.yamlfile import read_yaml

EXTENSIONS = (".yml", ".yaml", ".json")


def vars_files(folder: Path) -> FileVars:
    """The reader of the variables below ``folder``, which remembers what it has read."""

    @cache
    def present(kind: str) -> bool:
        return (folder / f"{kind}_vars").is_dir()

    @cache
    def read(kind: Literal["group", "host"], name: str) -> tuple[LocatedMapping, ...]:
        # A name with a leading slash is the path of a chroot, not a file here.
        if not present(kind) or name.startswith("/"):
            return ()
        contents: list[LocatedMapping] = []
        for file in found_files(folder / f"{kind}_vars", name):
            shown = os.path.relpath(file)
            content = read_yaml(file, shown)
            if not content:
                continue
            if not isinstance(content, LocatedMapping):
                raise SourceLocation(shown, 1).error(
                    "a file of variables must be a mapping of names to values"
                )
            contents.append(content)
        return tuple(contents)

    return read


def found_files(folder: Path, name: str) -> list[Path]:
    """The first of NAME (file or folder), NAME.yml, NAME.yaml, NAME.json that exists, folders unfolded."""
    for ending in ("", *EXTENSIONS):
        path = folder / f"{name}{ending}"
        if path.is_dir():
            return _in_folder(path)
        if path.exists():
            return [path]
    return []


def _in_folder(folder: Path) -> list[Path]:
    found: list[Path] = []
    for entry in sorted(os.listdir(folder)):
        if entry.startswith(".") or entry.endswith("~"):
            continue
        path = folder / entry
        if path.is_dir():
            if not path.suffix:
                found.extend(_in_folder(path))
        elif path.is_file() and path.suffix in ("", *EXTENSIONS):
            found.append(path)
    return found
