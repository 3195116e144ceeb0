"""voiceops itself as a wheel, made from the files that run here: agents on hosts import its agentkit."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from voiceops import __version__
from voiceops.config.shipped import PACKAGE
from voiceops.resources import Content


@dataclass(frozen=True, slots=True)
class OwnWheel:
    """A wheel whose version names its content: another text of voiceops is another version."""

    name: str
    version: str
    content: Content


@functools.lru_cache(maxsize=1)
def own_wheel(cache: Path) -> OwnWheel:
    """The wheel, built once for each state of the source (told by sizes and times), and asked once for all hosts."""
    files = dict(_files())
    stamp = hashlib.sha256()
    for name, path in files.items():
        status = os.stat(path)
        stamp.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    note = cache / "own" / f"{stamp.hexdigest()[:24]}.json"
    try:
        version, sha256, size = json.loads(note.read_text())
        wheel = note.parent / f"{sha256}.whl"
        if wheel.stat().st_size == size:
            return _described(version, Content(sha256, size, lambda: wheel.open("rb"), "voiceops"))
    except (OSError, ValueError):
        pass  # built below
    version, data = _build({name: Path(path).read_bytes() for name, path in files.items()})
    content = Content.of(data, "voiceops")
    _keep(note.parent / f"{content.sha256}.whl", data)
    _keep(note, json.dumps([version, content.sha256, content.size]).encode())
    return _described(version, content)


def _described(version: str, content: Content) -> OwnWheel:
    return OwnWheel(f"voiceops-{version}-py3-none-any.whl", version, content)


def _keep(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.replace(path)


def _files() -> Iterator[tuple[str, str]]:
    """Names in the wheel, and where they lie. Asked by every deploy: so no Path for each.

    Examples, templates and the sample inventory stay here: hosts make no projects and render nothing, and
    whoever edits the example agent in a checkout must not get another environment on every host.
    """
    for inside, path in _below(str(PACKAGE)):
        if not inside.startswith("shipped/"):
            yield f"voiceops/{inside}", path


def _below(folder: str) -> Iterator[tuple[str, str]]:
    """The files of a folder, by their path in it; what is compiled or hidden stays out."""
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in sorted(names):
            if not name.endswith((".pyc", ".pyo")):
                path = os.path.join(current, name)
                yield path[len(folder) + 1 :].replace(os.sep, "/"), path


def _build(files: dict[str, bytes]) -> tuple[str, bytes]:
    whole = hashlib.sha256()
    for name, data in files.items():
        whole.update(f"{name}\0{len(data)}\0".encode() + data)
    version = f"{__version__}+{whole.hexdigest()[:10]}"
    info = f"voiceops-{version}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: voiceops\nVersion: {version}\n".encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: voiceops\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            # A fixed time: the same files make the same wheel.
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
    return version, packed.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
