"""The smallest HTTP client: one GET, over TCP or a unix socket.

``http.client`` costs 20 ms of imports that ``check-running`` does not have to spend.
HTTP/1.0 keeps the answer in one piece: no chunks, closed when it is complete.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from voiceops.errors import UnreachableError

_MOST_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Status code and body."""

    status: int
    body: bytes


def get(url: str, *, timeout_s: float = 2.0) -> Answer:
    """GET an http or https URL; ``UnreachableError`` when there is no answer in time."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "127.0.0.1", parts.port or (443 if secure else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as plain:
            if not secure:
                return _exchange(plain, f"{host}:{port}", path, timeout_s)
            import ssl

            with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as wrapped:
                return _exchange(wrapped, f"{host}:{port}", path, timeout_s)
    except (OSError, ValueError) as error:
        raise UnreachableError(f"no answer from {host}:{port}: {error}", retryable=True) from error


def get_unix(path: Path, target: str, *, timeout_s: float = 2.0) -> Answer:
    """GET over a unix socket; ``UnreachableError`` when there is no answer in time."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            return _exchange(connection, "localhost", target, timeout_s)
    except (OSError, ValueError) as error:
        raise UnreachableError(f"no answer on {path.name}: {error}", retryable=True) from error


def accepts(host: str, port: int, *, timeout_s: float = 2.0) -> bool:
    """Whether a TCP connection is accepted."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def _exchange(connection: socket.socket, host: str, target: str, timeout_s: float) -> Answer:
    ends_at = time.monotonic() + timeout_s
    connection.sendall(f"GET {target} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: voiceops\r\n\r\n".encode())
    data = b""
    while len(data) < _MOST_BYTES:
        # Per read, or an answer that trickles would hold us for ever.
        connection.settimeout(max(0.001, ends_at - time.monotonic()))
        chunk = connection.recv(65536)
        if not chunk:
            break
        data += chunk
        head, separator, body = data.partition(b"\r\n\r\n")
        length = _content_length(head) if separator else None
        if length is not None and len(body) >= length:
            break
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise ValueError("the answer is not HTTP")
    return Answer(int(words[1]), body)


def _content_length(head: bytes) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return None
