"""The socket between a worker's main process and its job processes.

Every call runs in a process of its own. What belongs to all calls - the cache, the
metrics - lives in the main process; its address is in the environment of the jobs.

A message is one line of JSON, followed by ``size`` bytes where it says so. On Linux the
socket is in the abstract namespace, so that a killed worker leaves no file behind; either
way both sides talk only to processes of the same user.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypedDict

log = logging.getLogger("voiceops.agentkit")

ADDRESS_ENV = "VOICEOPS_AGENTKIT_HUB"
MAX_PAYLOAD_BYTES = 16_000_000
_FOREIGN = "a process of another user listens where the worker's main process did"

Reply = tuple[dict[str, object], bytes]
"""A message's header, which is JSON, and its payload."""


class CallStep(TypedDict):
    """One step of a call, as its job tells the worker's main process."""

    step: str
    call_id: str
    duration_s: float
    total_s: float
    details: dict[str, object]


class Connection:
    """One stream of messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> Reply | None:
        """The next message and its payload; None at the end of the stream."""
        try:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                return None
            header = json.loads(line)
            size = int(header.get("size", 0))
            if size > MAX_PAYLOAD_BYTES:
                return None
            return header, await self._reader.readexactly(size) if size else b""
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return None

    async def send(self, header: dict[str, object], payload: bytes = b"") -> None:
        """Send a message; ``OSError`` when the other side is gone."""
        self._writer.write(encode(header, payload))
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    def from_same_user(self) -> bool:
        """Whether the other side belongs to our user."""
        return _from_same_user(self._writer.get_extra_info("socket"))


def _from_same_user(connection: socket.socket) -> bool:
    """Ask the kernel: an abstract socket has no file mode, and its name can be bound again by anybody."""
    if not sys.platform.startswith("linux"):
        return True  # a socket file in a folder of mode 0700
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())


def encode(header: dict[str, object], payload: bytes = b"") -> bytes:
    """A message as it travels."""
    return json.dumps(header | ({"size": len(payload)} if payload else {})).encode() + b"\n" + payload


class Hub:
    """The main process's side: accepts connections and passes messages to ``handlers`` by their ``op``."""

    def __init__(self) -> None:
        self.on_event: Callable[[CallStep], None] = lambda event: None
        self.on_cache: Callable[[Connection, dict[str, object], bytes], Awaitable[None]] | None = None
        self._server: asyncio.AbstractServer | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def start(self) -> None:
        """Listen, and put the address where job processes inherit it."""
        if sys.platform.startswith("linux"):
            address = f"\0voiceops-agentkit-{os.getpid()}-{secrets.token_hex(8)}"
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="voiceops-")
            address = str(Path(self._folder.name) / "hub")
        self._server = await asyncio.start_unix_server(self._serve, address)
        os.environ[ADDRESS_ENV] = address.replace("\0", "@", 1)

    async def close(self) -> None:
        """Stop listening. Safe to call twice."""
        os.environ.pop(ADDRESS_ENV, None)
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        try:
            if not connection.from_same_user():
                return
            while (message := await connection.receive()) is not None:
                header, payload = message
                if header.get("op") == "event":
                    self.on_event(_call_step(header))
                elif header.get("op") == "cache" and self.on_cache is not None:
                    await self.on_cache(connection, header, payload)
        except asyncio.CancelledError:
            return  # the run is over; nothing above this handler waits for it
        except OSError:
            return  # the job ended in the middle of an answer
        except Exception:
            log.exception("a message from a job could not be handled")
        finally:
            connection.close()


def address() -> str | None:
    """Where the worker's main process listens; None outside of its jobs."""
    text = os.environ.get(ADDRESS_ENV, "")
    return (text.replace("@", "\0", 1) if text.startswith("@") else text) or None


async def connect() -> Connection:
    """Open a connection to the main process; ``OSError`` when there is none, or another user's answers."""
    target = address()
    if target is None:
        raise ConnectionError("no worker's main process to talk to")
    connection = Connection(*await asyncio.open_unix_connection(target))
    if not connection.from_same_user():
        connection.close()
        raise ConnectionError(_FOREIGN)
    return connection


class _Reporter:
    """Sends events without waiting: a lost metric must never hold up a call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._pid = 0

    def send(self, event: CallStep) -> None:
        target = address()
        if target is None:
            return
        with self._lock:
            try:
                if self._socket is None or self._pid != os.getpid():
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    self._socket.settimeout(0.05)
                    self._socket.connect(target)
                    if not _from_same_user(self._socket):
                        raise ConnectionError(_FOREIGN)
                    self._pid = os.getpid()
                self._socket.sendall(encode({"op": "event", **event}))
            except OSError:
                with contextlib.suppress(OSError):
                    if self._socket is not None:
                        self._socket.close()
                self._socket = None


_reporter = _Reporter()


def _call_step(header: dict[str, Any]) -> CallStep:
    return CallStep(
        step=str(header.get("step", "")),
        call_id=str(header.get("call_id", "")),
        duration_s=float(header.get("duration_s", 0.0)),
        total_s=float(header.get("total_s", 0.0)),
        details=dict(header.get("details") or {}),
    )


def report(event: CallStep) -> None:
    """Tell the worker's main process; does nothing where there is none. Never raises or blocks."""
    _reporter.send(event)
