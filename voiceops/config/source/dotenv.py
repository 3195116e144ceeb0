"""``.env`` beside the inventory: variables that the real environment may override.

``NAME=value`` by line; ``export`` and comments allowed; ``'literal'`` and ``"escaped\\n"`` may
span lines; nothing is expanded (``$`` is a dollar sign). A name given twice has its last value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from voiceops.config.source.located import SourceLocation
from voiceops.config.source.yamlfile import read_text
from voiceops.errors import ConfigError

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_BARE = re.compile(r"[^\n]*")
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}


def parse(text: str, shown: str = ".env") -> dict[str, str]:
    """The variables of a ``.env`` text; ``ConfigError`` with the line, never with a value."""
    text = text.replace("\r\n", "\n")
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        blank = _BLANK.match(text, at)
        if blank:
            at = blank.end()
            continue
        place = SourceLocation(shown, text.count("\n", 0, at) + 1)
        name = _NAME.match(text, at)
        if name is None:
            raise place.error("not a NAME=value line", hint="names are letters, digits and underscores")
        value, at = _value(text, name.end(), place)
        if "\0" in value:
            raise place.error("a NUL character can't be in a variable")
        values[name[1]] = value
    return values


def _value(text: str, at: int, place: SourceLocation) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote not in ("'", '"') or not quote:
        bare = _BARE.match(text, at)
        assert bare is not None
        return _COMMENT.sub("", bare[0]).strip(), bare.end() + 1
    match = (_SINGLE if quote == "'" else _DOUBLE).match(text, at)
    if match is None:
        raise place.error(f"the quote {quote} is not closed")
    rest = _BLANK.match(text, match.end())
    if rest is None:
        raise place.error("there is text after the closing quote", hint="quote the whole value")
    value = match[1]
    if quote == '"':
        value = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), value)
    return value, rest.end()


class Environment:
    """The variables of this process over those of ``.env``; reads the file when first asked."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.file = folder / ".env"
        self._environ = os.environ if environ is None else environ
        self._dotenv: dict[str, str] = {}
        self._signature: tuple[int, ...] | None = None

    def dotenv(self) -> dict[str, str]:
        """What ``.env`` says now (it is read again after a change); empty when there is none."""
        try:
            status = self.file.stat()
        except FileNotFoundError:
            self._signature, self._dotenv = None, {}
            return self._dotenv
        except OSError as error:
            raise ConfigError(f"the file can't be read: {error.strerror}", file=str(self.file)) from None
        signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        if signature != self._signature:
            shown = os.path.relpath(self.file)
            self._dotenv = parse(read_text(self.file, shown), shown)
            self._signature = signature
        return self._dotenv

    def get(self, name: str) -> str | None:
        """A variable; an empty one counts as not set, so that a copied ``NAME=`` line does no harm."""
        return self._environ.get(name) or self.dotenv().get(name) or None

    def variables(self) -> Mapping[str, str]:
        """What services may select from: lists the names of ``.env`` and finds those of the environment too."""
        return _ProjectVariables(self)

    def whole(self) -> dict[str, str]:
        """The environment for a child process: ``.env`` below the real one."""
        return self.dotenv() | dict(self._environ)


class _ProjectVariables(Mapping[str, str]):
    """Iterates over ``.env`` alone: a pattern must never match what happens to be in somebody's shell."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def __getitem__(self, name: str) -> str:
        value = self._environment.get(name)
        return value if value is not None else self._environment.dotenv()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environment.dotenv())

    def __len__(self) -> int:
        return len(self._environment.dotenv())
