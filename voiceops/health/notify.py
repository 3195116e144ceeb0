"""The receiving end of sd_notify: a datagram socket on which a started service reports."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


class NotifySocket:
    """Owned by whoever starts a service, closed and removed as soon as it is ready.

    What a service sends later has no receiver, which sd_notify allows: a send that fails
    is ignored by every implementation.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(str(path))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self.ready = False
        self.status = ""

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> None:
        """Take in what has arrived."""
        while True:
            try:
                message = self._socket.recv(65536)
            except (BlockingIOError, InterruptedError):
                return
            for line in message.decode(errors="replace").splitlines():
                name, _, value = line.partition("=")
                if name == "READY" and value == "1":
                    self.ready = True
                elif name == "STATUS":
                    self.status = value

    def close(self) -> None:
        """Safe to call twice."""
        self._socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
