"""The files of a host as text, to look at or to keep; secrets are masked.

A secret is not searched for in the finished text, where YAML or JSON may have written it in another
way: the files are made a second time, from settings that hold a mask instead of each secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from voiceops.deploy.desired import HostState
from voiceops.errors import StorageError
from voiceops.model.secret import Secret
from voiceops.model.settings import Settings
from voiceops.resources import Content, File, Resource, Tree

MASK = "********"
_ASSIGNMENT = re.compile(r'^(\w+)="(?:[^"\\]|\\.)*"$', re.MULTILINE | re.DOTALL)
"""A variable as ``systemd.escape.environment_file`` writes it; its value may span lines."""


def masked_settings(settings: Settings) -> Settings:
    """The same settings with a mask for each secret; fetches none."""
    masked: Settings = _masked(settings)
    return masked


def _masked(value: object) -> Any:
    if isinstance(value, Secret):
        return Secret(MASK) if value else value
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return msgspec.structs.replace(value, **{name: _masked(getattr(value, name)) for name in names})
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value


def rendered_files(state: HostState, masked: HostState, settings: Settings) -> dict[str, str]:
    """Path to text, in the order in which they are written; programs and wheels are left out.

    ``masked`` is the state of the same host from ``masked_settings``: it has the texts, ``state`` the
    paths, because releases are named by what is in them.
    """
    secrets = sorted({one.reveal() for one in _secrets(settings) if one.reveal()}, key=len, reverse=True)
    files: dict[str, str] = {}
    for real, shown in zip(state.resources, masked.resources, strict=True):
        for path, content in zip(_paths(real), _contents(shown), strict=True):
            try:
                with content.open() as file:
                    text = file.read().decode()
            except UnicodeDecodeError:
                continue
            for secret in secrets:  # what somebody has written into code or commands as it is
                text = text.replace(secret, MASK)
            files[path] = _masked_lines(text) if isinstance(real, File) and path.endswith(".env") else text
    return files


def _paths(resource: Resource) -> list[str]:
    if isinstance(resource, File):
        return [resource.path]
    if isinstance(resource, Tree):
        return [f"{resource.path}/{name}" for name in resource.files]
    return []


def _contents(resource: Resource) -> list[Content]:
    if isinstance(resource, File):
        return [resource.contents()[0]]
    if isinstance(resource, Tree):
        return list(resource.files.values())
    return []


def _masked_lines(text: str) -> str:
    """Of an environment only the names: any value may come from ``.env``, where secrets stand."""
    return "".join(f"{name}={MASK}\n" for name in _ASSIGNMENT.findall(text))


def _secrets(value: object) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _secrets(item)


def write_files(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Below ``folder``, by their paths on the host; the names of what else lies there, which stays."""
    wanted = {path.lstrip("/") for path in files}
    try:
        for path, text in files.items():
            target = folder / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        return sorted(present - wanted)
    except OSError as error:
        raise StorageError(f"{error.filename}: {error.strerror}") from None
