"""The base of all resources: identity, relations, content, and the checks on what users write.

A resource is data. It becomes one or more specs (plain JSON) that the payload plans and
applies on the host; content travels apart, by hash, and only when the host lacks it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Union

from voiceops.errors import ConfigError
from voiceops.model.secret import Secret
from voiceops.remote.lease import state_folder
from voiceops.remote.onhost.hashes import Hashes

Spec = dict[str, Any]
Text = Union[str, bytes, Secret]

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}\$?")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}\.(service|timer|socket|target|path|mount|slice)")


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes by their hash; opened only if a host asks for them."""

    sha256: str
    size: int
    open: Callable[[], BinaryIO] = field(compare=False, repr=False)
    label: str = ""

    @classmethod
    def of(cls, data: bytes, label: str = "") -> Content:
        return cls(hashlib.sha256(data).hexdigest(), len(data), lambda: io.BytesIO(data), label)

    @classmethod
    def of_file(cls, path: Path, label: str = "") -> Content:
        """Hash a local file; ``ConfigError`` if it can't be read."""
        try:
            found = path.stat()
            sha256 = _file_sha256(path.absolute(), found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        return cls(sha256, found.st_size, lambda: path.open("rb"), label or str(path))


@functools.lru_cache(maxsize=4096)
def _file_sha256(path: Path, _inode: int, _size: int, _mtime_ns: int) -> str:
    """Many hosts get the same file, one spec asks more than once, and tomorrow's run asks again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voiceops"
    hashes = Hashes(str(cache))
    sha256 = hashes.sha256(str(path), path.stat())
    with contextlib.suppress(OSError):  # a cache that can't be written costs time only
        cache.mkdir(parents=True, exist_ok=True)
        hashes.save()
    return sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One piece of desired state. ``needs`` come first, whatever the order of the list."""

    kind: ClassVar[str] = ""
    needs: Sequence[Resource | str] = ()

    @property
    def key(self) -> str:
        """What tells this resource from others of its kind."""
        raise NotImplementedError

    @property
    def id(self) -> str:
        """``KIND:KEY``, as results, plans and other resources name it."""
        return f"{self.kind}:{self.key}"

    def specs(self) -> list[Spec]:
        """The specs that the payload gets; the last one carries ``id``."""
        raise NotImplementedError

    def contents(self) -> list[Content]:
        """What the specs name by hash."""
        return []

    def spec(self, **values: object) -> Spec:
        """A spec with this resource's id and relations; what is None stays out."""
        base: Spec = {"id": self.id, "type": self.kind, "needs": ids(self.needs)}
        return base | {key: value for key, value in values.items() if value is not None}


def ids(resources: Sequence[Resource | str]) -> list[str]:
    """Resources, or ids, as ids."""
    return [resource if isinstance(resource, str) else resource.id for resource in resources]


def reveal(text: Text) -> bytes:
    """The bytes that travel."""
    if isinstance(text, Secret):
        return text.reveal().encode()
    return text.encode() if isinstance(text, str) else text


def absolute(path: str) -> str:
    """A path on the host: absolute, plain, and not the root."""
    if not path.startswith("/") or posixpath.normpath(path) != path or path == "/" or not path.isprintable():
        raise ConfigError(
            f"{path!r} is no path for a host",
            hint="write it absolute, without '..', '//' or a '/' at its end",
        )
    return path


def account(name: str | None) -> str | None:
    """A name for a user or group."""
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a user or group", hint="lower-case letters, digits, '-' and '_'"
        )
    return name


def unit_name(name: str) -> str:
    """The full name of a unit."""
    if not _UNIT.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a unit", hint="give its suffix as well: NAME.service, NAME.timer"
        )
    return name


def permissions(mode: int | None) -> int | None:
    """A mode such as ``0o640``."""
    if mode is not None and not (isinstance(mode, int) and 0 <= mode <= 0o7777):
        raise ConfigError(f"mode {mode!r} is out of range", hint="write it in octal: 0o640")
    return mode


def plain(value: str, what: str) -> str:
    """A value that must stay on one line."""
    if not value.isprintable():
        raise ConfigError(f"{what} has a character that can't be printed: {value!r}")
    return value


@dataclass(frozen=True)
class State:
    """What a host should be. Order is the order of work; relations only move what must come first."""

    project: str
    resources: Sequence[Resource]

    @property
    def folder(self) -> str:
        """Journal, lock and blobs on the host."""
        return state_folder(self.project)

    @cached_property
    def specs(self) -> list[Spec]:
        """All specs; ``ConfigError`` for two resources of one id or a relation to none."""
        specs = [spec for resource in self.resources for spec in resource.specs()]
        known: set[str] = set()
        for spec in specs:
            if spec["id"] in known:
                raise ConfigError(f"two resources are {spec['id']}", hint="keep one of them")
            known.add(spec["id"])
        for spec in specs:
            for relation in ("needs", "restart_on", "reload_on", "on_change"):
                for other in spec.get(relation, ()):
                    if other not in known:
                        raise ConfigError(
                            f"{spec['id']} names {other} in {relation}, which is no resource of this host"
                        )
        return specs

    @cached_property
    def contents(self) -> dict[str, Content]:
        """Everything that the host may ask for, by hash."""
        return {content.sha256: content for resource in self.resources for content in resource.contents()}
