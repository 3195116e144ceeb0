"""Write what cron and systemd read. Every step is skipped where nothing would change."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from voiceops.errors import ServiceError, StorageError, VoiceopsError
from voiceops.util.atomic_write import write_atomically

_TOOL_TIMEOUT_S = 20.0


def read_text(path: Path) -> str | None:
    """The file's text; None if there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}") from None


def write_text(path: Path, text: str, mode: int) -> None:
    """By temp file and rename: cron must never read half of it. Its own folder is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # cron ignores names with a dot, so it never looks at the temp file.
        write_atomically(path, text.encode(), mode=mode)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from None


def hand_over(folder: Path, user: int, group: int) -> None:
    """Give a folder of root's to a user. Where that user put a link instead, it is left alone, never followed."""
    if folder.is_symlink():
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"{folder} is no folder of its own: {error.strerror}") from None
    try:
        if os.fstat(descriptor).st_uid == 0:
            os.fchown(descriptor, user, group)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete the file if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"can't delete {path}: {error.strerror}") from None


def read_crontab() -> str:
    """The user's crontab; empty if there is none."""
    # Whether there is none or it can't be read is the same exit code, so the text decides.
    done = _run(["crontab", "-l"], check=False, env={"LC_ALL": "C"})
    if done.returncode != 0 and "no crontab for" not in done.stderr:
        raise ServiceError(f"crontab -l failed: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else ""


def write_crontab(text: str) -> None:
    """Replace the user's crontab; an empty one is removed."""
    if text.strip():
        _run(["crontab", "-"], stdin=text)
    else:
        _run(["crontab", "-r"])


def systemctl(*arguments: str, user: bool) -> None:
    """One systemctl command, on the user's own manager where asked."""
    _run(["systemctl", *(("--user",) if user else ()), *arguments])


def _run(
    command: Sequence[str], *, stdin: str = "", check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TOOL_TIMEOUT_S,
            env=os.environ | (env or {}),
            check=False,
        )
    except FileNotFoundError:
        raise ServiceError(
            f"{command[0]} is not installed",
            hint="install cron, or use --systemd" if command[0] == "crontab" else "leave out --systemd",
        ) from None
    except subprocess.TimeoutExpired:
        raise ServiceError(f"{command[0]} did not end within {_TOOL_TIMEOUT_S:g} s") from None
    if check and done.returncode != 0:
        raise VoiceopsError(
            f"`{' '.join(command)}` failed with exit code {done.returncode}",
            log_tail=tuple((done.stderr or done.stdout).strip().splitlines()[-5:]),
        )
    return done


def timer_runs(unit: str, *, user: bool) -> bool:
    """Whether the timer is enabled and active."""
    scope = ("--user",) if user else ()
    return all(
        _run(["systemctl", *scope, verb, "--quiet", unit], check=False).returncode == 0
        for verb in ("is-enabled", "is-active")
    )
