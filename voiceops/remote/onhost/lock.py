"""The lock of a host, with its lease, which outlives a run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time

from voiceops.remote.onhost.base import BEAT_S, Failed
from voiceops.remote.onhost.disk import naming
from voiceops.remote.onhost.state_folder import boot_id, read_lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from voiceops.remote.messages import HeldLease, LeaseRequest


class Lock:
    """One run at a time on a host, and a lease for the gaps between the runs of one deploy.

    While a run lives it holds a ``flock``, which the kernel drops with the process. Between
    two runs the lease in the file counts; it ends by its time or with a reboot.
    """

    def __init__(self, folder: str, request: LeaseRequest) -> None:
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

    def take(self, waiting: Callable[[HeldLease], None], cancelled: Callable[[], None]) -> None:
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

    def _try(self) -> HeldLease | None:
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
