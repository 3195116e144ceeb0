"""Hosts over ssh: Fabric's connection, with host keys checked, deadlines on everything, and fast pipes.

Fabric trusts any host key and feeds standard input one byte per 10 ms. Here the key must stand in
known_hosts, and programs get a Paramiko channel of the same connection.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from voiceops.adapters.ssh.errors import ShellRefusalError, connection_lost, translated
from voiceops.adapters.ssh.sudo import Sudo, SudoRefusal
from voiceops.adapters.ssh.target import SshTarget
from voiceops.adapters.ssh.tunnel import Tunnel
from voiceops.errors import DeadlineError, UnreachableError
from voiceops.ports import ProgramResult

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import Channel

LIMIT_BYTES = 1 << 20
WINDOW_BYTES = 1 << 22
"""Of a channel: the default of 2 MiB halves uploads over a long line."""
_PROBE_S = 10.0


class SshTransport:
    """Implements ``Transport``. One connection, opened on first use, for all programs.

    A host that allows few sessions on one connection (MaxSessions) gets more connections.
    """

    def __init__(self, target: SshTarget) -> None:
        self.target = target
        self._connection: Connection | None = None
        self._more: list[Connection] = []
        """Opened where the host refused one more session on the first one."""
        self._guard = threading.Lock()
        self._closed = False
        self._tunnels: dict[int, Tunnel] = {}

    @property
    def name(self) -> str:
        return self.target.name

    def connection(self) -> Connection:
        """The open connection. Raises ``UnreachableError`` or ``CredentialsError``."""
        with self._guard:
            if self._closed:
                raise UnreachableError(f"{self.name}: the connection was closed")
            if self._connection is None or not self._connection.is_connected:
                from voiceops.adapters.ssh.connect import connect

                if self._connection is not None:  # it was lost
                    self._connection.close()
                with translated(self.name, self.target.address):
                    self._connection = connect(self.target)
            return self._connection

    def open(self) -> None:
        self.connection()

    def start(self, argv: Sequence[str], *, root: bool = False) -> SshProcess:
        user = self.connection().user
        sudo = Sudo(self.target.sudo_password) if root and user != "root" else None
        return self._start(sudo.wrap(argv) if sudo else argv, sudo)

    def _start(self, argv: Sequence[str], sudo: Sudo | None = None, *, terminal: bool = False) -> SshProcess:
        connection = self.connection()
        # A login shell that is no shell (nologin, a menu) never prints the mark.
        began = f"<{secrets.token_hex(6)}>"
        script = f"echo '{began}' >&2; exec \"$@\""
        with translated(self.name, self.target.address):
            channel = self._session(connection)
            channel.settimeout(30.0)
            if terminal:
                channel.get_pty()
            channel.exec_command(shlex.join(["sh", "-c", script, "sh", *argv]))
        # On a terminal both streams are one, so that no mark can be told.
        marks = [] if terminal else [f"{began}\n".encode(), *([sudo.began] if sudo else [])]
        return SshProcess(self.name, connection.user, channel, marks, sudo, self._refusal)

    def _session(self, connection: Connection) -> Channel:
        """A channel on a connection that has room for one more, or on a new one."""
        from paramiko.ssh_exception import ChannelException

        for one in (connection, *self._more):
            if one.is_connected:
                with contextlib.suppress(ChannelException):
                    return self._opened(one)
        from voiceops.adapters.ssh.connect import connect

        more = connect(self.target)
        try:
            channel = self._opened(more)
        except BaseException:
            more.close()
            raise
        self._more.append(more)
        if self._closed:
            self.close()
        return channel

    def _opened(self, connection: Connection) -> Channel:
        channel: Channel = connection.transport.open_session(
            window_size=WINDOW_BYTES, timeout=self.target.connect_timeout_s
        )
        return channel

    def _refusal(self) -> SudoRefusal:
        """Why sudo started nothing: whether it asks for a password without a terminal, or only with one."""
        sudo = Sudo(None)
        for terminal, refusal in ((False, SudoRefusal.PASSWORD), (True, SudoRefusal.TERMINAL)):
            with contextlib.closing(self._start(sudo.probe(), terminal=terminal)) as process:
                if process.answers(sudo.asks, _PROBE_S):
                    return refusal
        return SudoRefusal.OTHER

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float = 60.0
    ) -> ProgramResult:
        with contextlib.closing(self.start(argv, root=root)) as process:
            process.write(stdin)
            process.end_input()
            return process.finish(timeout_s)

    def forward(self, port: int) -> int:
        """A port here that leads to ``port`` on the host's loopback, until this transport is closed."""
        tunnel = self._tunnels.get(port) or self._tunnels.setdefault(
            port, Tunnel(self.target, self.connection, port)
        )
        return tunnel.port

    def close(self) -> None:
        # Without the guard: a connect that hangs must not keep Ctrl-C waiting for its deadline.
        self._closed = True
        for tunnel in self._tunnels.values():
            tunnel.close()
        for connection in (self._connection, *self._more):
            if connection is not None:
                with contextlib.suppress(Exception):
                    connection.close()


class SshProcess:
    """Implements ``RemoteProcess`` on one Paramiko channel."""

    def __init__(
        self,
        host: str,
        user: str,
        channel: Channel,
        marks: list[bytes],
        sudo: Sudo | None,
        refusal: Callable[[], SudoRefusal],
    ) -> None:
        self._host = host
        self._user = user
        self._channel = channel
        self._sudo = sudo
        self._refusal = refusal
        """Asks why sudo started nothing."""
        self._marks = marks
        """What is still to come on stderr before the program runs: the login shell's mark, then sudo's."""
        self._stderr = b""
        self._first_output = b""
        """What came before the program ran: of a login shell that is no shell, its words."""
        self._ready = threading.Event()
        # One event for both streams and their ends: whatever comes ends the wait at once.
        channel.in_buffer.set_event(self._ready)
        channel.in_stderr_buffer.set_event(self._ready)
        if sudo:
            self.write(sudo.first_input())

    def write(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except TimeoutError:
            raise DeadlineError(f"{self._host}: takes no input for 30 s", retryable=True) from None
        except OSError:
            if not self._channel.closed and not self._channel.eof_received:
                raise connection_lost(self._host) from None
            # The program ended without reading all: read() and wait() tell why.

    def end_input(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def read(self, silence_s: float) -> bytes:
        ends_at = time.monotonic() + silence_s
        while True:
            # Cleared before reading: what comes after it sets it again.
            self._ready.clear()
            ended = self._channel.eof_received or self._channel.closed
            self._take_errors()
            if self._channel.recv_ready():
                data: bytes = self._channel.recv(1 << 17)
                if self._marks:
                    self._first_output = (self._first_output + data)[:4096]
                return data
            if self._sudo and self._marks and self._sudo.refused(self._stderr):
                raise self._sudo.error(self._host, self._stderr, 1)
            if ended:
                return b""
            if not self._ready.wait(max(0.0, ends_at - time.monotonic())):
                if len(self._marks) > bool(self._sudo):
                    raise self._shell_refusal()
                raise DeadlineError(f"{self._host}: no sign of life for {silence_s:g} s", retryable=True)

    def _take_errors(self) -> None:
        while self._channel.recv_stderr_ready():
            self._stderr = (self._stderr + self._channel.recv_stderr(1 << 16))[-LIMIT_BYTES:]
            while self._marks and self._marks[0] in self._stderr:
                # What stands before it is the login's or sudo's own.
                self._stderr = self._stderr.partition(self._marks.pop(0))[2]

    def _shell_refusal(self) -> ShellRefusalError:
        said = self._first_output + b"\n" + self._stderr
        return ShellRefusalError(self._host, self._user, said.decode("utf-8", "replace"))

    def answers(self, expected: Callable[[bytes], bool], timeout_s: float) -> bool:
        """Whether the program writes what is expected, or ends well, within the time."""
        ends_at = time.monotonic() + timeout_s
        said = b""
        while time.monotonic() < ends_at:
            with contextlib.suppress(DeadlineError):
                data = self.read(0.2)
                said += data
                if not data:
                    return bool(self._channel.status_event.wait(1.0)) and self._channel.exit_status == 0
            if expected(said + self._stderr):
                return True
        return False

    def wait(self) -> ProgramResult:
        if not self._channel.status_event.wait(30.0) or self._channel.exit_status < 0:
            raise connection_lost(self._host)
        self._take_errors()
        code: int = self._channel.exit_status
        if not self._marks:
            return ProgramResult(code, b"", self._stderr)
        self.close()  # a host may allow one session at a time, and the next one asks why
        if self._sudo is None or len(self._marks) > 1:
            raise self._shell_refusal()
        raise self._sudo.error(self._host, self._stderr, code, self._refusal)

    def finish(self, timeout_s: float) -> ProgramResult:
        """Read it to its end, within the deadline."""
        ends_at = time.monotonic() + timeout_s
        output = b""
        while data := self.read(max(0.0, ends_at - time.monotonic())):
            output = (output + data)[-LIMIT_BYTES:]
        ended = self.wait()
        return ProgramResult(ended.exit_code, output, ended.stderr)

    def close(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()
