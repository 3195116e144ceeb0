"""A port of a host's loopback, reached from here over its ssh connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from voiceops.adapters.ssh.errors import translated
from voiceops.adapters.ssh.target import SshTarget
from voiceops.errors import VoiceopsError

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import Channel

_CHUNK_BYTES = 1 << 16


class Tunnel:
    """Listens on a free port here; each connection to it becomes one to ``port`` on the host.

    ssh connects with the first of them. A connection that the host refuses is closed here as
    well, so that clients see what they would see there. ``close`` ends all; safe to call again.
    """

    def __init__(self, target: SshTarget, connection: Callable[[], Connection], port: int) -> None:
        """``connection`` returns the open connection to ``target``."""
        self._target = target
        self._connection = connection
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """On this machine."""
        port: int = self._listener.getsockname()[1]
        return port

    def _accept(self) -> None:
        while True:
            try:
                reachable_endpoint, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._open.add(reachable_endpoint)
            threading.Thread(target=self._serve, args=(reachable_endpoint,), daemon=True).start()

    def _serve(self, reachable_endpoint: socket.socket) -> None:
        with reachable_endpoint:
            try:
                far = self._far()
            except VoiceopsError:
                return
            back = threading.Thread(target=_copy_back, args=(far, reachable_endpoint), daemon=True)
            back.start()
            # Closing sends a message, too: over a connection that has just been cut, it fails.
            with contextlib.suppress(OSError, EOFError), contextlib.closing(far):
                while data := reachable_endpoint.recv(_CHUNK_BYTES):
                    far.sendall(data)
                far.shutdown_write()
                back.join()
        self._open.discard(reachable_endpoint)

    def _far(self) -> Channel:
        connection = self._connection()
        timeout_s = self._target.connect_timeout_s
        with translated(self._target.name, f"port {self._port}"):
            channel: Channel = connection.transport.open_channel(
                "direct-tcpip", ("127.0.0.1", self._port), ("127.0.0.1", 0), timeout=timeout_s
            )
        return channel

    def close(self) -> None:
        # close() alone would leave accept() waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for reachable_endpoint in list(self._open):
            with contextlib.suppress(OSError):
                reachable_endpoint.shutdown(socket.SHUT_RDWR)


def _copy_back(far: Channel, reachable_endpoint: socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := far.recv(_CHUNK_BYTES):
            reachable_endpoint.sendall(data)
        reachable_endpoint.shutdown(socket.SHUT_WR)
