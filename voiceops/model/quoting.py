"""Quoting: for the shell, for the terminal, for YAML; names that need none."""

from __future__ import annotations

import json
import re
import shlex

PACKAGE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9+._:-]*[A-Za-z0-9+])?")
"""Of a distribution. One that ends in ``-`` would tell apt to remove it."""


def quoted(word: str) -> str:
    """``word`` as one shell word; control characters visible, as ``$'...'``."""
    if any(not character.isprintable() for character in word):
        escaped = "".join(
            character
            if character.isprintable() and character not in "\\'"
            else f"\\{character}"
            if character in "\\'"
            else "".join(f"\\x{byte:02x}" for byte in character.encode())
            for character in word
        )
        return f"$'{escaped}'"
    return shlex.quote(word)


def printable(text: str) -> str:
    """``text`` with control characters and line breaks shown, so that a name can't draw on the terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def printable_lines(text: str) -> str:
    """As ``printable``, but line breaks and tabs stay: for text of several lines that we have composed."""
    if text.isprintable():
        return text
    return "".join(part if part in "\n\t" else printable(part) for part in re.split(r"([\n\t])", text))


def json_text(value: object, *, indent: int | None = None) -> str:
    """One JSON document that can be read on a terminal: what is not printable is written as ``\\uXXXX``."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    return "\n".join(map(_json_line, text.split("\n")))


def _json_line(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)


def json_for_yaml(value: object, *, indent: int | None = None) -> str:
    """JSON that is YAML too. Plain JSON writes an emoji as two halves, which YAML readers refuse or garble."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e\n]", _escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
