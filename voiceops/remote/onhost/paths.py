"""Paths that root acts on: no folder on the way can be exchanged meanwhile, and no stranger's link is followed."""

from __future__ import annotations

import contextlib
import os
import stat

from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.disk import remove_quietly, sync_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HALF = ".voiceops-tmp"
LINKS = 40
"""As many as the kernel follows."""
HELD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def pinned(path: str, make: bool = False) -> Iterator[str]:
    """Give ``path`` by a descriptor of its folder, which stays the same whatever is renamed or linked meanwhile.

    The last part is left to the caller, who must not follow it. A link on the way is followed only out of
    a folder that nobody but root can write; ``Failed`` elsewhere. ``make``: missing folders are made.
    """
    held = [os.open("/", HELD)]
    folder = os.path.dirname(path)
    place = ""
    try:
        _descend(held, path, make)
        place = f"/proc/self/fd/{held[-1]}"
        yield f"{place}/{os.path.basename(path)}"
    except Failed as error:
        error.message = error.message.replace(place or "\0", folder)
        raise
    except OSError as error:
        error.filename = path
        raise
    finally:
        for fd in held:
            os.close(fd)


def _descend(held: list[int], path: str, make: bool) -> None:
    """Open the folders on the way one by one; the last of ``held`` is that of ``path``."""
    names = path.split("/")[-2::-1]
    links = 0
    while names:
        name = names.pop() or "."
        try:
            fd = os.open(name, HELD, dir_fd=held[-1])
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(name, 0o755, dir_fd=held[-1])
            fd = os.open(name, HELD, dir_fd=held[-1])
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            held.append(fd)
            continue
        os.close(fd)
        links += 1
        if not only_ours(os.fstat(held[-1])) or links > LINKS:
            raise Failed(f"{path}: root does not follow the link {name}, which somebody else can have made")
        target = os.readlink(name, dir_fd=held[-1])
        names += target.split("/")[::-1]
        if target.startswith("/"):
            held.append(os.open("/", HELD))


def only_ours(found: os.stat_result) -> bool:
    """Whether nobody but root, or whoever runs this, can write it."""
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o022


def stat_of(path: str) -> os.stat_result | None:
    """What is at the path itself, a link not followed; None for nothing."""
    try:
        with pinned(path) as at:
            return os.lstat(at)
    except (FileNotFoundError, NotADirectoryError):
        return None


def temporary(path: str) -> str:
    """The one name that half-written content of ``path`` has: a killed run's litter is found by it."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name[:200]}{HALF}")


def switch_link(path: str, target: str) -> None:
    with pinned(path) as at:
        fresh = temporary(at)
        remove_quietly(fresh)
        os.symlink(target, fresh)
        os.replace(fresh, at)
        sync_path(os.path.dirname(at))


def remove_all(path: str) -> None:
    found = stat_of(path)
    if found is None:
        return
    with pinned(path) as at:
        if stat.S_ISDIR(found.st_mode):
            import shutil  # 2 ms that a run without changes does not pay

            shutil.rmtree(at)
        else:
            os.unlink(at)


def restrict_below(path: str, uid: int, gid: int, mode: int) -> None:
    """Set owner, group and mode of a folder and all that is in it; files that are no programs lose the x bits.

    The folder itself comes last: as long as it differs, the walk is not over.
    """
    for folder, _, names in os.walk(path, topdown=False):
        for full in (*(os.path.join(folder, name) for name in names), folder):
            found = os.lstat(full).st_mode
            if not stat.S_ISLNK(found):
                os.chown(full, uid, gid)
                os.chmod(full, mode if found & 0o40100 else mode & 0o666)
