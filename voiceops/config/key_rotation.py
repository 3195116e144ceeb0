"""LiveKit keys in ``.env`` while they are rotated: the next pair, the pair in use, the previous pair.

They are variables of the same name with ``_NEXT`` or ``_PREVIOUS`` behind it. Each step is one replacement of the
file, so that whoever is killed in between leaves one of four states, and the file says which.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from voiceops.config.local_keys import made_value, replace_env_file
from voiceops.config.source.dotenv import Environment, parse
from voiceops.config.source.yamlfile import read_text
from voiceops.errors import ConfigError, StorageError
from voiceops.model.secret import Secret


def rotated_variable(secret: Secret, which: str) -> str:
    """The variable of the ``next`` or ``previous`` value of a secret; empty for one that is no variable."""
    return f"{secret.reference}_{which.upper()}" if secret.form == "env" else ""


@dataclass(frozen=True, slots=True)
class RotatedKeys:
    """The variables of one pair in the ``.env`` of a project."""

    environment: Environment
    key: str
    secret: str

    def add_next(self) -> None:
        """Make a next pair, unless there is one."""
        if f"{self.key}_NEXT" not in self.environment.dotenv():
            made = {f"{self.key}_NEXT": made_value(True), f"{self.secret}_NEXT": made_value(False)}
            rewrite(self.environment, made)

    def use_next(self) -> None:
        """Make the next pair the one in use, and that the previous one."""
        known = self.environment.dotenv()
        changes: dict[str, str | None] = {}
        for name in (self.key, self.secret):
            changes |= {
                name: known[f"{name}_NEXT"],
                f"{name}_NEXT": None,
                f"{name}_PREVIOUS": known[name],
            }
        rewrite(self.environment, changes)

    def drop_previous(self) -> None:
        """Remove the previous pair."""
        rewrite(self.environment, {f"{self.key}_PREVIOUS": None, f"{self.secret}_PREVIOUS": None})


def rewrite(environment: Environment, changes: Mapping[str, str | None]) -> None:
    """Set and remove (None) variables of ``.env`` by one replacement of the file; all else stays as it is written.

    ``ConfigError`` where that can't be done line by line, before anything has changed.
    """
    try:
        # As who adds the first keys: the lock on the folder leaves no file behind and falls with its owner.
        descriptor = os.open(environment.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            file = environment.file.resolve()
            old = read_text(file, str(file)) if file.exists() else ""
            replace_env_file(file, changed_text(old, changes))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(
            f"the keys can't be written: {error.strerror}: {environment.file}",
            hint="make the folder writable; nothing was changed",
        ) from None


def changed_text(text: str, changes: Mapping[str, str | None]) -> str:
    """The text of a ``.env`` with variables set or removed (None)."""
    missing = dict(changes)
    lines = []
    for line in text.splitlines(keepends=True):
        found = re.match(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=", line)
        if found is None or found[1] not in changes:
            lines.append(line)
            continue
        value = missing.pop(found[1], None)
        if value is not None:
            lines.append(f"{found[1]}={value}\n")
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    lines += [f"{name}={value}\n" for name, value in missing.items() if value is not None]
    made = "".join(lines)
    wanted = {name: value for name, value in {**parse(text), **changes}.items() if value is not None}
    if not _says(made, wanted):
        raise ConfigError(
            "the keys can't be changed line by line",
            file=".env",
            hint=f"write {', '.join(changes)} as one line each, without quotes",
        )
    return made


def _says(text: str, wanted: Mapping[str, str]) -> bool:
    try:
        return parse(text) == wanted
    except ConfigError:
        return False
