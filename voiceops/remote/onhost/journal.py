"""What outlives a run on the host: the journal, the lock with its lease, the state's format.

The journal has one line per step, synced before the step: a run that was killed between
"configuration written" and "unit restarted" left a line that says which unit has to wake.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time

from voiceops.remote.onhost.base import BEAT_S, PAYLOAD_FORMAT, Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

JOURNAL_LIMIT = 256 * 1024


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


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


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


class Journal:
    """Steps begun and ended; what must still wake is read from it."""

    def __init__(self, folder: str, *, readonly: bool) -> None:
        self._path = os.path.join(folder, "journal")
        self._fd = -1
        self._readonly = readonly
        self.pending: dict[str, set[str]] = {}
        """Units and commands that must still act, with the changes that ask for it."""
        self.interrupted: set[str] = set()
        """Steps that began and never ended."""
        self._replay()

    def _replay(self) -> None:
        try:
            with open(self._path, "rb") as file:
                lines = file.read().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a full disk or a crash cuts a line in two; its step never began
            if isinstance(entry, dict):
                self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        if "intent" in entry:
            self.interrupted.add(entry["intent"])
            for target in entry.get("wakes", ()):
                self.pending.setdefault(target, set()).add(entry["intent"])
        elif "done" in entry:
            self.interrupted.discard(entry["done"])
            self.pending.pop(entry["done"], None)
        elif "failed" in entry:
            self.interrupted.discard(entry["failed"])

    def begin(self, run: dict[str, Any]) -> None:
        """Open for writing; a long journal shrinks to what is still pending."""
        if self._readonly:
            return
        try:
            if os.path.getsize(self._path) > JOURNAL_LIMIT:
                self._compact()
        except FileNotFoundError:
            pass
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._append(b"\n")  # ends a line that a crash cut off
        self.write({"run": run})
        sync_path(os.path.dirname(self._path))

    def _compact(self) -> None:
        wakes: dict[str, list[str]] = {}
        for target, causes in self.pending.items():
            for cause in causes:
                wakes.setdefault(cause, []).append(target)
        entries = [
            {"intent": cause, "wakes": wakes.get(cause, [])}
            for cause in sorted(self.interrupted | set(wakes))
        ]
        write_file(self._path, b"".join(json.dumps(entry).encode() + b"\n" for entry in entries), 0o600)

    def write(self, entry: dict[str, Any]) -> None:
        """One line on disk before this returns."""
        self._take(entry)
        if self._fd >= 0:
            self._append(json.dumps({**entry, "at": round(time.time(), 3)}).encode() + b"\n")
            os.fsync(self._fd)

    def _append(self, data: bytes) -> None:
        with naming(self._path):
            write_all(self._fd, data)

    def intent(self, resource: str, wakes: Iterable[str] = ()) -> None:
        self.write({"intent": resource, "wakes": sorted(wakes)})

    def done(self, resource: str) -> None:
        self.write({"done": resource})


class Lock:
    """One run at a time on a host, and a lease for the gaps between the runs of one deploy.

    While a run lives it holds a ``flock``, which the kernel drops with the process. Between
    two runs the lease in the file counts; it ends by its time or with a reboot.
    """

    def __init__(self, folder: str, request: dict[str, Any]) -> None:
        self._path = os.path.join(folder, "lock")
        self._owner = request.get("owner", "")
        self._reason = request.get("reason", "")
        self._token = request.get("token", "")
        self._lease_s = float(request.get("lease_s", 60.0))
        self._hold = bool(request.get("hold", False))
        self._force = bool(request.get("force", False))
        self._wait_s = float(request.get("wait_s", 0.0))
        self._fd = -1
        self._guard = threading.Lock()

    def take(self, waiting: Callable[[dict[str, Any]], None], cancelled: Callable[[], None]) -> None:
        """Hold the lock, or fail naming its owner once the patience is over."""
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        ends_at = time.monotonic() + self._wait_s
        tell_at = time.monotonic()
        while True:
            holder = self._try()
            if holder is None:
                self._write(held=False)
                return
            if time.monotonic() >= ends_at:
                raise Failed(json.dumps(holder), kind="locked")
            if time.monotonic() >= tell_at:
                waiting(holder)
                tell_at += BEAT_S
            cancelled()
            time.sleep(0.1)

    def _try(self) -> dict[str, Any] | None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            return read_lease(self._path) or {"owner": "a run that just began", "reason": ""}
        lease = read_lease(self._path)
        if lease and lease["held"] and lease["token"] != self._token and not self._force:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            return lease
        return None

    def _write(self, *, held: bool) -> None:
        now = time.time()
        lease = {
            "owner": self._owner,
            "reason": self._reason,
            "token": self._token,
            "expires": now + self._lease_s,
            "boot": boot_id(),
            "pid": os.getpid(),
            "held": held,
        }
        data = json.dumps(lease).encode()
        # In place: a flock belongs to the inode, so the file must not be replaced. Cut afterwards: on a full
        # disk somebody else could take the room, and the lease of a run that goes on would be lost.
        with naming(self._path):
            os.pwrite(self._fd, data, 0)
            os.ftruncate(self._fd, len(data))

    def renew(self) -> None:
        with self._guard:
            if self._fd >= 0:
                self._write(held=False)

    def release(self) -> None:
        """End of the run: leave the lease for the next one of this deploy, or nothing."""
        with self._guard:
            if self._fd < 0:
                return
            if self._hold:
                self._write(held=True)
            else:
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def read_lease(path: str) -> dict[str, Any] | None:
    """Who holds the lock file, unless the lease ran out, the host rebooted, or nobody does."""
    try:
        with open(path) as file:
            lease: dict[str, Any] = json.loads(file.read() or "null") or {}
        lease = {"owner": "somebody", "reason": "", "token": "", "held": False, **lease}
    except (OSError, ValueError, TypeError):
        return None
    if lease.get("boot") != boot_id() or lease.get("expires", 0) < time.time():
        return None
    return lease
