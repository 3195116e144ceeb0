"""``{env: NAME}``, ``{file: PATH}`` and ``{command: "..."}``: secrets that stand elsewhere.

They are checked for form when the inventory is read, and fetched when they are first needed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from voiceops.config.source.dotenv import Environment
from voiceops.config.source.located import LocatedMapping, SourceLocation
from voiceops.errors import ConfigError
from voiceops.model.secret import Secret

FORMS = ("env", "file", "command")
COMMAND_TIMEOUT_S = 30.0
_LIMIT_BYTES = 65536
_SHELL = re.compile(r"[|&;<>]+|.*[`].*|.*\$\(.*", re.DOTALL)
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:pass|passwd|password|passphrase|secret|token|credentials?|api_?key|private_?key)(?:$|_)",
    re.IGNORECASE,
)
_NOT_SECRET = re.compile(r"_(?:file|path|dir|url|name|env|ttl|timeout|s|bytes)$", re.IGNORECASE)


def is_secret_name(name: object) -> bool:
    """Whether a variable of this name holds a secret, so that its value is never shown."""
    return isinstance(name, str) and bool(_SECRET_NAME.search(name)) and not _NOT_SECRET.search(name)


def is_reference(value: object) -> bool:
    """Whether a value has the form of a reference to a secret."""
    return isinstance(value, LocatedMapping) and len(value) == 1 and next(iter(value)) in FORMS


def secret_from(value: LocatedMapping, environment: Environment, place: SourceLocation, path: str) -> Secret:
    """The secret that a reference names, not fetched yet; ``ConfigError`` when it is malformed."""
    if not is_reference(value):
        raise place.error(
            "a secret is text or exactly one of env, file, command", path=path, hint="write {env: NAME}"
        )
    ((form, target),) = value.items()
    if form == "command":
        arguments = _arguments(target, place, path)
        return Secret.of("command", shlex.join(arguments), lambda: _run(arguments, environment, place, path))
    if not isinstance(target, str) or not target:
        raise place.error(f"{form} must name a {'variable' if form == 'env' else 'file'}", path=path)
    if form == "env":
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", target):
            raise place.error(f"{target!r} is no name of a variable", path=path)
        return Secret.of("env", target, lambda: _variable(target, environment, place, path))
    file = environment.folder / Path(target).expanduser()
    return Secret.of("file", target, lambda: _file(file, place, path))


def _variable(name: str, environment: Environment, place: SourceLocation, path: str) -> str:
    value = environment.get(name)
    if value is None:
        raise place.error(
            f"the variable {name} is not set, neither in the environment nor in .env",
            path=path,
            hint=f"add a line {name}=... to {os.path.relpath(environment.file)}",
        )
    return value


def _file(file: Path, place: SourceLocation, path: str) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise place.error(
            f"the file of a secret can't be read: {error.strerror}: {os.path.relpath(file)}",
            path=path,
            hint="create it with nothing but the secret in it, or name another one",
        ) from None
    return _text(data, place, path)


def _arguments(command: object, place: SourceLocation, path: str) -> list[str]:
    if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        return list(command)
    if not isinstance(command, str):
        raise place.error("command must be text or a list of texts", path=path)
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise place.error(f"the command can't be split into words: {error}", path=path) from None
    if not words:
        raise place.error("the command is empty", path=path)
    # No shell runs it: a pipe would silently be passed on as an argument.
    if any(_SHELL.fullmatch(word) for word in words):
        raise place.error(
            "the command is run without a shell, so pipes, redirections and $(...) do nothing",
            path=path,
            hint='write {command: ["sh", "-c", "..."]} if you want one',
        )
    return words


def _run(arguments: list[str], environment: Environment, place: SourceLocation, path: str) -> str:
    def failed(why: str) -> ConfigError:
        # Never the output: it may be the secret, or a part of it.
        return place.error(
            f"the command of a secret {why}", path=path, hint=f"run it yourself: {shlex.join(arguments)}"
        )

    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            cwd=environment.folder,
            env=environment.whole(),
        )
    except subprocess.TimeoutExpired:
        raise failed(f"took longer than {COMMAND_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise failed(f"can't be run: {error.strerror}") from None
    if done.returncode != 0:
        raise failed(f"exited with {done.returncode}")
    return _text(done.stdout, place, path)


def _text(data: bytes, place: SourceLocation, path: str) -> str:
    """The secret in what a file or command gave, without the newline that editors and echo add."""
    if len(data) > _LIMIT_BYTES:
        raise place.error(f"the secret is longer than {_LIMIT_BYTES} bytes", path=path)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise place.error("the secret is not UTF-8 text", path=path) from None
    text = text[:-1] if text.endswith("\n") else text
    text = text[:-1] if text.endswith("\r") else text
    if not text or "\0" in text:
        raise place.error("the secret is empty" if not text else "the secret has a NUL character", path=path)
    return text
