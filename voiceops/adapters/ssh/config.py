"""The user's ssh_config as ssh reads it, which Paramiko does but for ``Include``."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
    "stricthostkeychecking": "StrictHostKeyChecking",
}
"""What ``ansible_ssh_common_args`` and ``ansible_ssh_extra_args`` may set."""
_HOST_KEY_CHECKS = ("yes", "ask", "accept-new")
"""Nobody is asked here: ``ask`` is ``yes``."""
_FILE = "-F"
_FLAGS = {"-J": "ProxyJump", "-i": "IdentityFile", "-l": "User", "-p": "Port", _FILE: _FILE}
_SWITCHES = {
    "-A": "ForwardAgent",
    "-a": "ForwardAgent",
    "-C": "Compression",
    "-q": "LogLevel",
    "-T": "RequestTTY",
    "-t": "RequestTTY",
    "-x": "ForwardX11",
}
_IGNORED = {
    name.lower(): name
    for name in (
        *("ControlMaster", "ControlPath", "ControlPersist", "ServerAliveInterval", "ServerAliveCountMax"),
        *("TCPKeepAlive", "Compression", "ForwardAgent", "ForwardX11", "RequestTTY", "LogLevel", "BatchMode"),
        *("PreferredAuthentications", "PubkeyAuthentication", "PasswordAuthentication"),
        *("KbdInteractiveAuthentication", "ChallengeResponseAuthentication", "GSSAPIAuthentication"),
        *("IdentitiesOnly", "AddKeysToAgent", "ConnectionAttempts", "CheckHostIP", "UpdateHostKeys"),
        *("HashKnownHosts", "VisualHostKey"),
    )
}
"""Ordinary in inventories. One connection serves a whole command, is kept alive, and tries all keys that it has."""
_MAX_DEPTH = 16


def read_text(file: Path | None, options: Mapping[str, str]) -> str:
    """``options`` first, because in ssh the first value wins; then the files, includes spelled out."""
    files = [file] if file else [USER_FILE, SYSTEM_FILE]
    lines = [f"Host *\n{''.join(f'  {key} {value}{chr(10)}' for key, value in options.items())}"]
    for one in files:
        path = one.expanduser()
        if file and not path.exists():
            raise ConfigError(f"there is no ssh_config {file}", hint="-F of the ssh arguments names it")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SshArguments:
    """What the ssh arguments of a host say, as far as it means something here."""

    options: Mapping[str, str] = field(default_factory=dict)
    """By their names in ssh_config."""
    config_file: Path | None = None
    """``-F``: instead of the user's and the system's files."""
    ignored: tuple[str, ...] = ()
    """Options that are known and have nothing to act on."""


def ssh_arguments(variables: Mapping[str, object]) -> SshArguments:
    """The ssh arguments among the variables of a host; of two values for one option the extra one wins."""
    options: dict[str, str] = {}
    files: list[str] = []
    ignored: list[str] = []
    for variable in ("ansible_ssh_extra_args", "ansible_ssh_common_args"):
        if not variables.get(variable):
            continue
        try:
            for name, value in _pairs(str(variables[variable])):
                if name == _FILE:
                    files.append(value)
                elif name.lower() in _IGNORED:
                    ignored.append(_IGNORED[name.lower()])
                else:
                    options.setdefault(_supported(name, value), value)
        except ConfigError as error:
            raise ConfigError(error.bare, path=variable, hint=error.hint) from None
    file = Path(os.devnull if files[0] == "none" else files[0]).expanduser() if files else None
    return SshArguments(options=options, config_file=file, ignored=tuple(dict.fromkeys(ignored)))


def _supported(name: str, value: str) -> str:
    known = OPTIONS.get(name.lower())
    if known is None:
        raise ConfigError(
            f"the ssh option {name} is not supported",
            hint=f"supported: {', '.join(OPTIONS.values())}, -F FILE",
        )
    if "\n" in value:
        raise ConfigError(f"the ssh option {name} has a newline in its value")
    if known == "StrictHostKeyChecking" and value not in _HOST_KEY_CHECKS:
        raise ConfigError(
            f"StrictHostKeyChecking={value} would trust any host that answers",
            hint="accept-new writes a first key down and holds to it",
        )
    return known


def _pairs(arguments: str) -> Iterator[tuple[str, str]]:
    """Name and value of each option; flags by the option that they stand for."""
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise ConfigError(f"the ssh arguments can't be split into words: {error}") from None
    while words:
        flag, attached = words[0][:2], words.pop(0)[2:]
        if flag in _SWITCHES and not attached:
            yield _SWITCHES[flag], ""
            continue
        if flag not in ("-o", *_FLAGS):
            raise ConfigError(
                f"the ssh argument {flag}{attached} is not supported", hint="write it as -o Name=value"
            )
        if not attached and not words:
            raise ConfigError(f"the ssh argument {flag} has no value")
        value = attached or words.pop(0)
        if flag == "-o":
            name, _, value = value.partition("=" if "=" in value else " ")
            yield name.strip(), value.strip()
        else:
            yield _FLAGS[flag], value
