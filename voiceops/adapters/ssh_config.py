"""The user's ssh_config as ssh reads it, which Paramiko does but for ``Include``."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from voiceops.errors import ConfigError

USER_FILE = Path("~/.ssh/config")
SYSTEM_FILE = Path("/etc/ssh/ssh_config")
OPTIONS = {
    "connecttimeout": "ConnectTimeout",
    "identityfile": "IdentityFile",
    "proxycommand": "ProxyCommand",
    "proxyjump": "ProxyJump",
    "user": "User",
    "port": "Port",
    "userknownhostsfile": "UserKnownHostsFile",
    "globalknownhostsfile": "GlobalKnownHostsFile",
}
"""What ``ansible_ssh_common_args`` and ``ansible_ssh_extra_args`` may set."""
_MAX_DEPTH = 16


def read_text(file: Path | None, options: Mapping[str, str]) -> str:
    """``options`` first, because in ssh the first value wins; then the files, includes spelled out."""
    files = [file] if file else [USER_FILE, SYSTEM_FILE]
    lines = [f"Host *\n{''.join(f'  {key} {value}{chr(10)}' for key, value in options.items())}"]
    for one in files:
        path = one.expanduser()
        if path.exists():
            # A file begins outside of any Host block, whatever the one before ended with.
            lines += ["Host *\n", *_expanded(path, path.parent, 0)]
    return "".join(lines)


def _expanded(path: Path, base: Path, depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        raise ConfigError("ssh_config includes itself", file=str(path))
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        words = line.split(None, 1)
        if len(words) == 2 and words[0].lower() == "include":
            for pattern in shlex.split(words[1]):
                for name in sorted(glob.glob(str(base / Path(pattern).expanduser()))):
                    lines += [*_expanded(Path(name), base, depth + 1), "\n"]
        else:
            lines.append(line)
    return lines


def options_of(arguments: str) -> dict[str, str]:
    """The options in a line of ssh arguments (``-o Name=value``, ``-J hops``, ``-i file``), by their ssh_config names.

    Raises ``ConfigError`` for one that has no meaning here: an ignored option is worse.
    """
    found: dict[str, str] = {}
    words = shlex.split(arguments)
    while words:
        name, value, words = _take(words)
        known = OPTIONS.get(name.lower())
        if known is None:
            raise ConfigError(
                f"the ssh option {name} is not supported", hint=f"supported: {', '.join(OPTIONS.values())}"
            )
        if "\n" in value:
            raise ConfigError(f"the ssh option {name} has a newline in its value")
        found.setdefault(known, value)
    return found


def _take(words: Sequence[str]) -> tuple[str, str, list[str]]:
    """One option off the front: its name, its value, and what is left."""
    first, rest = words[0], list(words[1:])
    flag, attached = first[:2], first[2:]
    if flag not in ("-o", "-J", "-i"):
        return first, "", rest
    if not attached:
        if not rest:
            raise ConfigError(f"the ssh argument {flag} has no value")
        attached = rest.pop(0)
    if flag == "-o":
        name, _, value = attached.partition("=" if "=" in attached else " ")
        return name.strip(), value.strip(), rest
    return ("ProxyJump" if flag == "-J" else "IdentityFile"), attached, rest
