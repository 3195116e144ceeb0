"""Strong keys for a new project or the first local start, so that nobody runs with a default."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from secrets import token_hex, token_urlsafe

from voiceops.config.source.dotenv import Environment, parse
from voiceops.config.source.yamlfile import read_text
from voiceops.errors import ConfigError, StorageError
from voiceops.model.roles import Role
from voiceops.model.secret import Secret
from voiceops.model.settings import Host
from voiceops.util.suggest import resembles

_HEADING = "# Made by voiceops for the project's servers. Keep this file out of version control.\n"


def ensure_keys_of(host: Host, environment: Environment) -> tuple[str, ...]:
    """``ensure_local_keys`` for a host, if it is this machine: of the livekit-server and of all that has a password."""
    if not host.local:
        return ()
    settings = host.settings
    key, secret = settings.livekit.api_key, settings.livekit.api_secret
    passwords = [
        getattr(service, name) for service in settings.running.values() for name in service.passwords
    ]
    names = [one.reference for one in passwords if one.form == "env"]
    if settings.runs(Role.SERVER) and key.form == secret.form == "env":
        return ensure_local_keys(environment, key=key.reference, secrets=(secret.reference, *names))
    return ensure_local_keys(environment, secrets=names) if names else ()


def ensure_local_keys(environment: Environment, *, key: str = "", secrets: Sequence[str]) -> tuple[str, ...]:
    """Add the variables that nobody has set to ``.env``; returns the names of those it added.

    ``key``: the one that gets the form of a LiveKit API key.

    Safe to call again and from many processes at once: one writes, the others find the result.
    What the file holds is kept; it is replaced in one step and readable for its owner alone.
    """
    wanted = tuple(dict.fromkeys(filter(None, (key, *secrets))))
    if all(environment.get(name) for name in wanted):
        return ()
    try:
        # A lock on the folder itself leaves no lock file behind and falls with its owner.
        descriptor = os.open(environment.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            missing = [name for name in wanted if not environment.get(name)]
            if missing:
                _append(environment.file, {name: made_value(name == key) for name in missing})
            return tuple(missing)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(
            f"new keys can't be written: {error.strerror}: {environment.file}",
            hint=f"set {' and '.join(wanted)} in the environment, or make the folder writable",
        ) from None


def new_keys_notice(names: Sequence[str], environment: Environment, *, old_in: str = "") -> str:
    """What to tell when keys were made: where they are, whom they lock out, and what may have been meant instead.

    ``old_in`` is the folder of the configuration that a livekit-server here was started with.
    """
    others = [name for name in environment.dotenv() if name not in names]
    alike = {name: next((one for one in others if resembles(name, one)), "") for name in names}
    meant = [
        f"{other} is set there: if that is what was meant, correct the name in .env or in inventory.yaml"
        for other in alike.values()
        if other
    ]
    return "; ".join(
        [
            f"warning: {' and '.join(names)} {'was' if len(names) == 1 else 'were'} set neither in the environment "
            f"nor in {environment.file.name}: new random values were made and written to it; whoever has other keys "
            "(apps, token servers, a LiveKit that runs) is refused",
            *meant,
            *([f"the keys that the server was started with stand in {old_in}"] if old_in else []),
        ]
    )


def made_value(is_key: bool) -> str:
    """A random key or secret, as strong as LiveKit's own."""
    # LiveKit wants 32 characters of secret; 43 of base64 hold 256 bits.
    return f"API{token_hex(8)}" if is_key else token_urlsafe(32)


def _append(file: Path, values: dict[str, str]) -> None:
    file = file.resolve()  # a symlinked .env stays a symlink
    old = read_text(file, str(file)) if file.exists() else ""
    parse(old, str(file))  # never touch a file that can't be understood
    lines = [old if not old or old.endswith("\n") else old + "\n"]
    lines.append(_HEADING if _HEADING not in old else "")
    lines += [f"{name}={value}\n" for name, value in values.items()]
    replace_env_file(file, "".join(lines))


def replace_env_file(file: Path, text: str) -> None:
    """Replace the file in one step, readable for its owner alone."""
    descriptor, temporary = tempfile.mkstemp(prefix=".env.", dir=file.parent)  # 0600 from the start
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if os.geteuid() == 0:
            owner = (file if file.exists() else file.parent).stat()
            os.chown(temporary, owner.st_uid, owner.st_gid)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def refuse_shell_only(environment: Environment, secrets: Iterable[Secret]) -> None:
    """``ConfigError`` for a secret that is a variable of this shell alone: every run of cron would fail."""
    known = environment.dotenv()
    for secret in secrets:
        name = secret.reference
        if secret.form == "env" and name not in known and name in os.environ:
            raise ConfigError(
                f"{name} is set in this shell only: cron and systemd will not know it",
                hint=f"write {name}=... into {environment.folder / '.env'}",
            )
