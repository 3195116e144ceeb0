"""The state folder on the host: whose it is, its format, and the compiled programs that it keeps."""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import time

from voiceops.remote.onhost.base import PAYLOAD_FORMAT, Failed
from voiceops.remote.onhost.disk import expect_space, remove_quietly, write_file
from voiceops.remote.onhost.paths import HALF, only_ours, stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

    from voiceops.remote.messages import HeldLease


MARK = ".voiceops"
"""In a folder that we made, or may have."""


STATE_MARKS = {"format", "journal", "lock", "blobs", "data", MARK}
"""Any of them is ours; ``data`` is what systemd makes again where all else was removed."""


def has_content(path: str) -> bool:
    """Whether anything but a killed run's litter is in a folder; each disk brings a ``lost+found``."""
    return any(name != "lost+found" and not name.endswith(HALF) for name in os.listdir(path))


def refuse_foreign(path: str, ours: bool) -> None:
    """Fail where somebody else made the folder; on a full disk our mark may be what is missing."""
    if not ours:
        expect_space(path, 4096)
        raise Failed(f"{path} is there already, and voiceops did not make it", [path], "foreign")


def check_format(folder: str) -> None:
    """Refuse a host whose state a newer voiceops wrote: we would misread it."""
    try:
        with open(os.path.join(folder, "format")) as file:
            found = int(file.read() or 0)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    if found > PAYLOAD_FORMAT:
        raise Failed(
            f"the host's state in {folder} has format {found}, this voiceops knows up to {PAYLOAD_FORMAT}",
            kind="newer",
        )


def check_folder(folder: str) -> None:
    """Refuse a state folder that somebody else made or can write: root acts on what is in it."""
    check_format(folder)
    if stat_of(folder):
        if not is_ours(folder):
            raise Failed(
                f"{folder} belongs to or can be written by somebody else, and root acts on what is in it"
            )
        refuse_foreign(folder, not has_content(folder) or has_mark(folder))


def has_mark(folder: str) -> bool:
    return not STATE_MARKS.isdisjoint(os.listdir(folder))


def open_folder(folder: str) -> None:
    """The state folder, with the format that wrote it."""
    os.makedirs(folder, 0o755, exist_ok=True)
    path = os.path.join(folder, "format")
    try:
        with open(path) as file:
            if int(file.read() or 0) == PAYLOAD_FORMAT:
                return
    except (FileNotFoundError, ValueError):
        pass
    write_file(path, str(PAYLOAD_FORMAT).encode(), 0o644)


def may_cache(folder: str) -> bool:
    """A check leaves an empty folder empty: with a cache and no mark in it, it would look like somebody else's."""
    return is_ours(folder) and has_mark(folder)


def is_ours(folder: str) -> bool:
    """Whether only root can have written what is in the folder."""
    try:
        return only_ours(os.stat(folder))
    except OSError:
        return False


def keep_code(path: str, code: CodeType | None) -> None:
    """Keep the compiled program for the next run, instead of that of other versions."""
    folder, name = os.path.split(path)
    if code is None or os.path.exists(path) or not may_cache(folder):
        return
    # PAYLOAD-PROGRAM-VERSION-PYTHON; before there were several programs, the second part was missing.
    kind = name.rsplit("-", 2)[0] + "-"
    with contextlib.suppress(OSError):  # a cache that can't be written costs time, never a run
        write_file(path, marshal.dumps(code), 0o600)
        for other in os.listdir(folder):
            old = other.startswith("look-") or (other.startswith("payload-") and other.count("-") == 2)
            if other != name and (old or other.startswith(kind)):
                remove_quietly(os.path.join(folder, other))


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def read_lease(path: str) -> HeldLease | None:
    """Who holds the lock file, unless the lease ran out, the host rebooted, or nobody does."""
    try:
        with open(path) as file:
            found: HeldLease | None = json.loads(file.read() or "null")
        lease: HeldLease = {"owner": "somebody", "reason": "", "token": "", "held": False}
        if found:
            lease.update(found)
    except (OSError, ValueError, TypeError):
        return None
    if lease.get("boot") != boot_id() or lease.get("expires", 0) < time.time():
        return None
    return lease
