"""The files of a host as text, to look at or to keep; secrets are masked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voiceops.deploy.desired import HostState
from voiceops.errors import StorageError
from voiceops.model.secret import Secret
from voiceops.model.settings import Host
from voiceops.resources import Content, File, Resource, Tree

MASK = "********"


def rendered_files(state: HostState, host: Host) -> dict[str, str]:
    """Path to text, in the order in which they are written; programs and wheels are left out."""
    secrets = _secrets(host)
    files: dict[str, str] = {}
    for resource in state.resources:
        for path, content in _contents(resource):
            try:
                with content.open() as file:
                    text = file.read().decode()
            except UnicodeDecodeError:
                continue
            for secret in secrets:
                text = text.replace(secret, MASK)
            files[path] = (
                _masked_lines(text) if isinstance(resource, File) and path.endswith(".env") else text
            )
    return files


def _contents(resource: Resource) -> list[tuple[str, Content]]:
    if isinstance(resource, File):
        return [(resource.path, resource.contents()[0])]
    if isinstance(resource, Tree):
        return [(f"{resource.path}/{name}", content) for name, content in resource.files.items()]
    return []


def _masked_lines(text: str) -> str:
    """Of an environment only the names: any value may come from ``.env``, where secrets stand."""
    names = [line.partition("=")[0] for line in text.splitlines() if "=" in line and not line.startswith('"')]
    return "".join(f"{name}={MASK}\n" for name in names)


def _secrets(host: Host) -> list[str]:
    settings = host.settings
    found = [settings.livekit.api_key, settings.livekit.api_secret]
    for service in settings.services.values():
        found += [value for value in service.env.values() if isinstance(value, Secret)]
    return sorted({one.reveal() for one in found if one.reveal()}, key=len, reverse=True)


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
