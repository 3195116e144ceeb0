"""What is installed into the user's cache once and shared by all projects: complete under its name, or absent."""

from __future__ import annotations

import errno
import fcntl
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from voiceops.adapters.binaries.progress import OnProgress, Progress
from voiceops.errors import StorageError, VoiceopsError

INSTALL_TIMEOUT_S = 1200.0


@contextmanager
def exclusive(path: Path, what: str, on_progress: OnProgress) -> Iterator[None]:
    """Hold a lock that the kernel drops when this process ends, however it ends."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress(Progress(doing=f"waiting for another process that fetches {what}"))
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Translate what a full or read-only disk raises."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"the disk is full: {folder}", hint=f"df -h {folder}") from error
        raise StorageError(f"can't write to {folder}: {error.strerror or error}") from error


def build_once(folder: Path, what: str, build: Callable[[Path], None], on_progress: OnProgress) -> Path:
    """Make ``folder`` by ``build``, which fills a folder beside it; safe to call by any number of processes at once."""
    if folder.exists():
        return folder
    with writing_to(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(folder.parent / ".lock", what, on_progress):
            if folder.exists():
                return folder
            for leftover in folder.parent.glob("build-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            building = Path(tempfile.mkdtemp(prefix="build-", dir=folder.parent))
            try:
                build(building)
                building.chmod(0o755)
                building.rename(folder)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return folder


def run_uv(arguments: Sequence[str], what: str) -> None:
    """Run uv; ``VoiceopsError`` with the end of what it says where it fails."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise VoiceopsError(
            f"{what} can't be installed: there is no uv", hint="./inv brings it; else install uv"
        )
    try:
        done = subprocess.run(
            [uv, *arguments], capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise VoiceopsError(f"{what} can't be installed: not done after {INSTALL_TIMEOUT_S:g} s") from error
    if done.returncode:
        tail = tuple(done.stderr.strip().splitlines()[-5:])
        full = "No space left on device" in done.stderr
        raise (StorageError if full else VoiceopsError)(
            f"{what} can't be installed" + (": the disk is full" if full else ""),
            hint="it comes from the Python package index that uv is configured for",
            log_tail=tail,
        )
