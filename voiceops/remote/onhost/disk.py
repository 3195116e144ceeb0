"""Write and remove files on the host: whole or not at all, synced, with errors that name the path."""

from __future__ import annotations

import contextlib
import errno
import os
import threading

from voiceops.remote.onhost.base import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from voiceops.remote.messages import FailureEntry


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Add the path to an error on a descriptor, which names none."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


def sync_path(path: str) -> None:
    """A file, or a folder: a rename is on disk only once its folder is."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: str, data: bytes, mode: int) -> None:
    """A file of the state folder, whole or not at all, also when two look at the host at once."""
    fresh = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with naming(path):
            write_all(fd, data)
            os.fsync(fd)
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
    finally:
        os.close(fd)


def remove_quietly(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def no_space(error: OSError, path: str) -> Failed:
    """The failure for an ``OSError`` on ``path``, with the free space where that is the cause."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return Failed(f"{path}: {error.strerror or error}")
    while path != "/" and not os.path.isdir(path):
        path = os.path.dirname(path)
    stat = os.statvfs(path)
    free = f"{stat.f_bavail * stat.f_frsize} bytes" if stat.f_favail or not stat.f_files else "no inode"
    return Failed(f"the disk is full: {free} free on {path}", kind="disk-full")


def expect_space(folder: str, size: int) -> None:
    stat = os.statvfs(folder)
    free = stat.f_bavail * stat.f_frsize
    if free < size:
        raise Failed(
            f"the disk is too full: {size} bytes to write, {free} bytes free on {folder}", kind="disk-full"
        )


def describe_failure(error: Failed | OSError) -> FailureEntry:
    """Return a failure as results and error frames have it."""
    if isinstance(error, OSError):
        error = no_space(error, str(error.filename or "/"))
    return {"result": "failed", "error": error.message, "log": error.log, "kind": error.kind}
