"""What comes before a program on this machine: another user, and a limit that its process begins with."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Mapping

from voiceops.errors import ConfigError

_LIMITED = 'ulimit -n "$1" && shift && exec "$@"'


def limiting(open_files_max: int | None, service: str) -> tuple[str, ...]:
    """Return the words before a command that may open so many files; ``ConfigError`` where this session may not allow it."""
    if open_files_max is None:
        return ()
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed != resource.RLIM_INFINITY and open_files_max > allowed:
        raise ConfigError(
            f"this machine allows {allowed} open files to a process, not {open_files_max}",
            path=f"services.{service}.open_files_max",
            hint="lower it, or raise the limit of your session (`ulimit -Hn`)",
        )
    return ("/bin/sh", "-c", _LIMITED, "sh", str(open_files_max))


def as_user(user: str | None, service: str) -> tuple[str, ...]:
    """Return the words before a command that runs as ``user``; ``ConfigError`` where that can't be."""
    if user is None:
        return ()
    entry = _entry(user, service)
    if entry.pw_uid == os.geteuid():
        return ()
    if os.geteuid():
        raise ConfigError(
            f"only root can start {service} as {user}",
            path=f"services.{service}.user",
            hint="take `user` out: on this machine services are yours",
        )
    return ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups", "--")


def user_environment(user: str | None, service: str) -> Mapping[str, str]:
    """Return the variables that tell a program whose it is."""
    if user is None:
        return {}
    return {"HOME": _entry(user, service).pw_dir, "USER": user, "LOGNAME": user}


def _entry(user: str, service: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            f"this machine has no user {user!r}",
            path=f"services.{service}.user",
            hint="voiceops makes no users but its own: make it, or name another one",
        ) from None
