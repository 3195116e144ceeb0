"""Probes against real sockets, files and programs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from voiceops.adapters import http
from voiceops.errors import UnreachableError
from voiceops.health.agent import read_health
from voiceops.health.notify import NotifySocket
from voiceops.health.probes import probe_command, probe_http, probe_log, probe_tcp


@contextmanager
def answering(listener: socket.socket, *pieces: bytes) -> Iterator[None]:
    """Send these pieces to whoever connects, then close."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                for piece in pieces:
                    connection.sendall(piece)

    thread = threading.Thread(target=serve)
    with listener:
        listener.listen()
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def tcp() -> tuple[socket.socket, int]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


def unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    return listener


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", True),
        (b"HTTP/1.0 406 Not Acceptable\r\n\r\nNot Ready", False),
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"", False),
    ],
)
def test_http_is_ready_with_200_only(answer: bytes, ok: bool) -> None:
    listener, port = tcp()
    with answering(listener, answer):
        probed = probe_http(f"http://127.0.0.1:{port}/x?y=1")
    assert probed.ok is ok
    assert probed.detail


def test_nobody_on_the_port_is_not_ready_and_no_error() -> None:
    listener, port = tcp()
    listener.close()
    assert not probe_http(f"http://127.0.0.1:{port}/").ok
    assert not probe_tcp(f"127.0.0.1:{port}").ok


def test_an_answer_that_never_ends_is_given_up_at_the_deadline() -> None:
    listener, port = tcp()
    with listener:
        listener.listen()
        with pytest.raises(UnreachableError, match="no answer from"):
            http.get(f"http://127.0.0.1:{port}/", timeout_s=0.1)


def test_tcp_is_ready_when_connections_are_accepted() -> None:
    listener, port = tcp()
    with listener:
        listener.listen()
        assert probe_tcp(f"127.0.0.1:{port}").ok


def test_a_log_line_counts_only_when_it_is_newer_than_the_start(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("ready\n")
    assert probe_log(log, 0, "^ready$").ok
    assert not probe_log(log, 6, "^ready$").ok
    log.write_text("ready")  # shorter than the offset: rotated
    assert probe_log(log, 6, "^ready$").ok
    assert not probe_log(tmp_path / "none.log", 0, "x").ok


def test_a_command_is_ready_with_exit_0_and_says_why_not(tmp_path: Path) -> None:
    assert probe_command(["true"], cwd=tmp_path).ok
    assert (
        probe_command(["sh", "-c", "echo not yet >&2; exit 3"], cwd=tmp_path).detail == "sh exits 3: not yet"
    )
    assert not probe_command(["no-such-program"], cwd=tmp_path).ok
    assert "no answer in" in probe_command(["sleep", "5"], cwd=tmp_path, timeout_s=0.05).detail


def test_health_of_an_agent_is_read_with_200_and_with_503(tmp_path: Path) -> None:
    body = b'{"registered": true, "draining": true, "calls": 2, "rooms": ["a", "b"], "max_jobs": 2, "new": 1}'
    path = tmp_path / "health"
    with answering(unix(path), b"HTTP/1.1 503 X\r\nContent-Length: %d\r\n\r\n" % len(body), body):
        health = read_health(path)
    assert health is not None
    assert (health.draining, health.calls, health.rooms, health.full) == (True, 2, ["a", "b"], True)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\nnot json", b"HTTP/1.1 200 OK\r\n\r\n[]"])
def test_health_that_makes_no_sense_is_none(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "health"
    with answering(unix(path), answer):
        assert read_health(path) is None
    assert read_health(tmp_path / "nobody") is None


def test_ready_is_taken_from_among_other_messages_and_the_socket_leaves_no_file(tmp_path: Path) -> None:
    notify = NotifySocket(tmp_path / "notify")
    notify.receive()
    assert not notify.ready
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"WATCHDOG=1", str(notify.path))
        sender.sendto(b"STATUS=2 calls\nREADY=1", str(notify.path))
    notify.receive()
    assert (notify.ready, notify.status) == (True, "2 calls")
    notify.close()
    notify.close()
    assert not notify.path.exists()
