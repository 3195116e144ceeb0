"""A tunnel whose ssh connection is cut, over a real one between two ends of a socket pair."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest

from voiceops.adapters.ssh.target import SshTarget
from voiceops.adapters.ssh.tunnel import Tunnel


class _CutSocket:
    """A socket that sends nothing any more once it is cut, though nobody has noticed yet."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.cut = False

    def send(self, data: bytes) -> int:
        if self.cut:
            raise BrokenPipeError
        return self._inner.send(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Server(paramiko.ServerInterface):
    def check_auth_none(self, username: str) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_direct_tcpip_request(self, *_: Any) -> int:
        return paramiko.common.OPEN_SUCCEEDED


@pytest.fixture
def cable() -> Iterator[tuple[_CutSocket, paramiko.Transport, paramiko.Transport]]:
    """The client's socket, the client and the server."""
    near, far = socket.socketpair()
    server = paramiko.Transport(far)
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.start_server(server=_Server(), event=threading.Event())
    near_cut = _CutSocket(near)
    client = paramiko.Transport(near_cut)  # type: ignore[arg-type]
    client.connect(username="ops")
    client.auth_none("ops")
    with contextlib.closing(server), contextlib.closing(client):
        yield near_cut, client, server


def test_a_client_that_leaves_after_the_connection_was_cut_ends_its_thread_quietly(
    cable: tuple[_CutSocket, paramiko.Transport, paramiko.Transport],
) -> None:
    near, client, server = cable
    before = set(threading.enumerate())
    connection: Any = SimpleNamespace(transport=client)
    target = SshTarget(name="vo1", address="127.0.0.1", user="ops")
    tunnel = Tunnel(target, lambda: connection, 7880)
    with contextlib.closing(tunnel), socket.create_connection(("127.0.0.1", tunnel.port)) as reached:
        reached.sendall(b"hello")
        channel = server.accept(10)
        assert channel is not None
        assert channel.recv(5) == b"hello"
        near.cut = True
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
