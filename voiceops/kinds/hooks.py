"""Commands that run to their end before a service is started, or once it is ready."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from voiceops.errors import ServiceError, StorageError
from voiceops.model.environment import session_environment

_EFFECT = {"before_start": "was not started", "after_ready": "is not ready"}
_SHOWN_LINES = 10
_SHOWN_BYTES = 4000


def run_hooks(
    commands: Sequence[Sequence[str]],
    service: str,
    setting: str,
    *,
    as_user: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    timeout_s: float,
) -> None:
    """Run them one after the other, with the service's variables and into its log; ``ServiceError`` for the first that fails.

    ``as_user``: the words that come before each of them.
    """
    for argv in commands:
        why = _failure([*as_user, *argv], cwd=cwd, env=env, log=log, timeout_s=timeout_s)
        if why:
            tail = log.read_bytes()[-_SHOWN_BYTES:].decode(errors="replace").splitlines()[-_SHOWN_LINES:]
            raise ServiceError(
                f"{service} {_EFFECT[setting]}: {argv[0]} of {setting} {why}",
                hint=f"correct that, then `inv start --only {service}`; `inv logs --only {service}` has all of it",
                log_tail=tuple(tail),
                data={"service": service, "exit_status": None},
            )


def _failure(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, timeout_s: float) -> str:
    try:
        stream = log.open("ab")
    except OSError as error:
        raise StorageError(f"can't write to {log}: {error.strerror}") from error
    with stream:
        try:
            code = subprocess.run(
                argv,
                cwd=cwd,
                env={**session_environment(os.environ), **env},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return f"did not end within {timeout_s:g} s"
        except OSError as error:
            return f"can't be run: {error.strerror}"
    return f"exits {code}" if code else ""
