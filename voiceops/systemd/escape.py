"""Values in unit files and environment files: escaped so that they arrive unchanged, or refused.

The two have different rules (systemd.syntax(7), systemd.service(5), systemd.exec(5)): a unit file expands
``%`` and ``$`` and knows C escapes; an environment file expands nothing, and its quotes may span lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from voiceops.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def word(text: str, what: str = "an argument") -> str:
    """One argument of an Exec line."""
    _check(text, what)
    escaped = "".join(_escaped(character) for character in text)
    return f'"{escaped.replace("%", "%%").replace("$", "$$")}"'


def program(path: str, what: str = "a program") -> str:
    """The first word of an Exec line: an absolute path, in which systemd < 256 can't escape ``$``."""
    _check(path, what)
    if not path.startswith("/"):
        raise ConfigError(f"{what} of a unit needs an absolute path, not {path!r}")
    if "$" in path or not path.isprintable():
        raise ConfigError(
            f"{what} can't be started by systemd: its path {path!r} has '$' or a control character"
        )
    return '"' + "".join(_escaped(character) for character in path).replace("%", "%%") + '"'


def command(argv: Iterable[str], what: str = "a command") -> str:
    """A whole Exec line: every argument arrives as it is."""
    first, *rest = argv
    return " ".join([program(first, what), *(word(one, what) for one in rest)])


def value(text: str, what: str = "a value") -> str:
    """The value of a setting that is taken as one string: paths, descriptions, user names."""
    _check(text, what)
    if not text.isprintable() or text != text.strip() or text.endswith("\\"):
        raise ConfigError(
            f"{what} can't stand in a unit file: {text!r}",
            hint="no line breaks or control characters, no blanks at its ends, no backslash at its end",
        )
    return text.replace("%", "%%")


def environment_file(values: Mapping[str, str]) -> str:
    """An EnvironmentFile, sorted by name. It holds secrets: 0600, root's."""
    return "".join(f"{_name(name)}={_quoted(name, text)}\n" for name, text in sorted(values.items()))


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for an environment variable", hint="letters, digits and '_'")
    return name


def time_span(duration_s: float) -> str:
    """A time span for systemd, never rounded down."""
    return f"{math.ceil(duration_s * 1000)}ms" if duration_s % 1 else f"{duration_s:.0f}"


def _quoted(name: str, text: str) -> str:
    # The value may be a secret: it stays out of the message.
    _check(text, f"the value of {name}", secret=True)
    for character in text:
        if (ord(character) < 0x20 and character not in "\t\n") or character == "\x7f":
            raise ConfigError(
                f"the value of {name} has the control character {character!r}",
                hint="systemd drops such a variable; encode the value (for example as base64)",
            )
    return '"' + re.sub(r'([\\"`$])', r"\\\1", text) + '"'


def _escaped(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    if ord(character) < 0x20 or ord(character) == 0x7F:
        return f"\\x{ord(character):02x}"
    return character


def _check(text: str, what: str, *, secret: bool = False) -> None:
    shown = "" if secret else f": {text!r}"
    if "\0" in text:
        raise ConfigError(f"{what} has a NUL character{shown}", hint="no program can receive it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what} is not valid Unicode{shown}") from None
