"""Resources for files, folders and links."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar

from voiceops.errors import ConfigError
from voiceops.model.secret import Secret
from voiceops.resources.model import Content, Resource, Spec, Text, absolute, account, permissions, reveal


@dataclass(frozen=True, slots=True, kw_only=True)
class _At(Resource):
    """Something at a path, with an owner and a mode; what is None stays as it is on the host."""

    path: str
    owner: str | None = None
    group: str | None = None
    mode: int | None = None

    @property
    def key(self) -> str:
        return absolute(self.path)

    def access(self) -> Spec:
        return {"owner": account(self.owner), "group": account(self.group), "mode": permissions(self.mode)}


@dataclass(frozen=True, slots=True, kw_only=True)
class File(_At):
    """A file with this content. A ``Secret`` makes it 0600 and keeps it out of diffs and of the blob folder."""

    kind: ClassVar[str] = "file"
    content: Text
    secret: bool = False
    """Treat the content as a secret although it is no ``Secret``."""
    validate: Sequence[str] = ()
    """A command that must accept the new content first; ``{file}`` stands for its path."""

    @property
    def is_secret(self) -> bool:
        return self.secret or isinstance(self.content, Secret)

    def contents(self) -> list[Content]:
        return [Content.of(reveal(self.content), self.path)]

    def specs(self) -> list[Spec]:
        (content,) = self.contents()
        return [
            self.spec(
                path=self.path,
                sha256=content.sha256,
                size=content.size,
                secret=self.is_secret or None,
                validate=list(self.validate) or None,
                **self.access(),
            )
        ]


def Template(
    *, path: str, template: str, variables: Mapping[str, Any], name: str = "", **options: Any
) -> File:
    """A file rendered from a Jinja2 text. A template that prints a ``Secret`` makes the file a secret.

    Raises ``ConfigError`` for an undefined variable or a mistake in the template.
    """
    import jinja2.meta

    found: list[str] = []
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    try:
        # Only what is used is fetched: a reference to a password manager may cost a question.
        used = jinja2.meta.find_undeclared_variables(environment.parse(template))
        values = {key: _revealed(value, found) for key, value in variables.items() if key in used}
        text = environment.from_string(template).render(values)
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(str(error), file=name or path, line=line) from None
    if any(value and value in text for value in found):
        options.setdefault("secret", True)
    return File(path=path, content=text, **options)


def _revealed(value: object, found: list[str]) -> object:
    if isinstance(value, Secret):
        found.append(value.reveal())
        return value.reveal()
    if isinstance(value, Mapping):
        return _Revealing(value, found)
    if isinstance(value, (list, tuple)):
        return [_revealed(item, found) for item in value]
    return value


class _Revealing(dict[str, object]):
    """A mapping for templates that fetches a secret when it is read."""

    def __init__(self, values: Mapping[str, object], found: list[str]) -> None:
        super().__init__(values)
        self._found = found

    def __getitem__(self, key: str) -> object:
        return _revealed(super().__getitem__(key), self._found)

    def get(self, key: str, default: object = None) -> object:
        return self[key] if key in self else default  # noqa: SIM401 - get() is this very method

    def values(self) -> Any:
        return [self[key] for key in self]

    def items(self) -> Any:
        return [(key, self[key]) for key in self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob(_At):
    """A local file, such as a binary, sent when the host has other content; resumed after a cut."""

    kind: ClassVar[str] = "file"
    source: Path
    content: Content | None = None
    """Given by who knows the hash already: the file is then read only to be sent."""

    def contents(self) -> list[Content]:
        return [self.content or Content.of_file(self.source, self.path)]

    def specs(self) -> list[Spec]:
        (content,) = self.contents()
        return [self.spec(path=self.path, sha256=content.sha256, size=content.size, **self.access())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory(_At):
    """A directory. With ``marks`` a run stops before its first change where somebody else made it."""

    kind: ClassVar[str] = "directory"
    marks: Sequence[str] = ()
    """Any of these paths, or ``.voiceops`` in it, proves that it is ours. Else it must be empty and ``owner``'s."""

    def specs(self) -> list[Spec]:
        marks = [absolute(path) for path in self.marks] or None
        return [self.spec(path=self.path, marks=marks, **self.access())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink(Resource):
    """A symlink, switched without a moment of absence. ``target`` may be relative or not exist yet."""

    kind: ClassVar[str] = "symlink"
    path: str
    target: str

    @property
    def key(self) -> str:
        return absolute(self.path)

    def specs(self) -> list[Spec]:
        return [self.spec(path=self.path, target=self.target)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent(Resource):
    """Nothing at this path; a directory goes with all that is in it."""

    kind: ClassVar[str] = "absent"
    path: str

    @property
    def key(self) -> str:
        if absolute(self.path).count("/") < 2:
            raise ConfigError(f"Absent({self.path!r}) would remove a top-level folder")
        return self.path

    def specs(self) -> list[Spec]:
        return [self.spec(path=self.path)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree(_At):
    """A folder with exactly these files: complete or absent, as a release must be."""

    kind: ClassVar[str] = "tree"
    files: Mapping[str, Content]
    """Relative path to content. All of them, and the folders, get the mode; only programs keep its x bits."""
    executable: frozenset[str] = frozenset()

    @classmethod
    def of_folder(cls, path: str, source: Path, patterns: Sequence[str] = ("*",), **options: Any) -> Tree:
        """The files below ``source`` that match one of ``patterns``; caches and hidden files stay out."""
        found = {
            name: file for name, file in _files_below(source) if any(fnmatch(name, one) for one in patterns)
        }
        executable = frozenset(name for name, file in found.items() if file.stat().st_mode & stat.S_IXUSR)
        files = {name: Content.of_file(file) for name, file in found.items()}
        return cls(path=path, files=files, executable=executable, **options)

    def contents(self) -> list[Content]:
        return list(self.files.values())

    def specs(self) -> list[Spec]:
        mode = 0o755 if self.mode is None else self.mode
        files = [
            {
                "path": absolute("/" + name)[1:],
                "sha256": content.sha256,
                "size": content.size,
                "mode": mode if name in self.executable else mode & 0o666,
            }
            for name, content in sorted(self.files.items())
        ]
        return [self.spec(path=self.path, files=files, **self.access())]


def _files_below(source: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(source.rglob("*")):
        relative = file.relative_to(source)
        if file.is_file() and not any(
            part.startswith(".") or part == "__pycache__" for part in relative.parts
        ):
            yield relative.as_posix(), file
