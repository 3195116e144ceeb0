"""This machine as a host: the same payload, in a process of its own, without ssh."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from voiceops.adapters.ssh.sudo import Sudo
from voiceops.errors import DeadlineError, UnreachableError
from voiceops.model.secret import Secret
from voiceops.ports import ProgramResult

LIMIT_BYTES = 1 << 20


class LocalTransport:
    """Implements ``Transport`` for the machine that voiceops runs on."""

    def __init__(
        self, name: str = "localhost", *, sudo_password: Secret | None = None, python: str = sys.executable
    ) -> None:
        self._name = name
        self._python = python
        self._sudo_password = sudo_password
        self._running: set[LocalProcess] = set()

    @property
    def name(self) -> str:
        return self._name

    def open(self) -> None:
        """Nothing to connect."""

    def start(self, argv: Sequence[str], *, root: bool = False) -> LocalProcess:
        arguments = list(argv)
        if arguments[0] == "python3":
            arguments[0] = self._python  # one that surely is here
        sudo = Sudo(self._sudo_password) if root and os.geteuid() != 0 else None
        process = LocalProcess(self._name, sudo.wrap(arguments) if sudo else arguments, sudo)
        self._running = {one for one in self._running if not one.closed} | {process}
        return process

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float = 60.0
    ) -> ProgramResult:
        with contextlib.closing(self.start(argv, root=root)) as process:
            return process.finish(stdin, timeout_s)

    def close(self) -> None:
        for process in self._running:
            process.close()


class LocalProcess:
    """Implements ``RemoteProcess``. Its error output is drained by a thread that ends with it."""

    def __init__(self, host: str, argv: Sequence[str], sudo: Sudo | None) -> None:
        self._host = host
        self._sudo = sudo
        self._stderr = b""
        self.closed = False
        try:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C ends it between two steps, not in the middle of one
            )
        except FileNotFoundError:
            self._process = None
            return
        self._drain = threading.Thread(target=self._read_errors, args=(self._process,), daemon=True)
        self._drain.start()
        if sudo:
            self.write(sudo.first_input())

    def _read_errors(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        while data := os.read(process.stderr.fileno(), 65536):
            self._stderr = (self._stderr + data)[-LIMIT_BYTES:]

    def write(self, data: bytes) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return  # it ended: read() and wait() tell how

    def end_input(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def read(self, silence_s: float) -> bytes:
        if self._process is None:
            return b""
        assert self._process.stdout is not None
        try:
            if not select.select([self._process.stdout], [], [], silence_s)[0]:
                raise DeadlineError(f"{self._host}: no sign of life for {silence_s:g} s", retryable=True)
            return os.read(self._process.stdout.fileno(), 1 << 17)
        except (ValueError, OSError):
            raise UnreachableError(f"{self._host}: the process was closed") from None

    def wait(self) -> ProgramResult:
        if self._process is None:
            return ProgramResult(127)
        code = self._process.wait(timeout=30)
        self._drain.join(timeout=5)
        errors = self._stderr
        if self._sudo:
            errors = self._sudo.program_errors(self._host, errors, code)
        return ProgramResult(code, b"", errors)

    def finish(self, stdin: bytes, timeout_s: float) -> ProgramResult:
        """Feed it, read it to its end, within the deadline."""
        if self._process is None:
            return ProgramResult(127)
        assert self._process.stdin is not None
        writer = threading.Thread(target=self._feed, args=(stdin,), daemon=True)
        writer.start()
        ends_at = time.monotonic() + timeout_s
        output = b""
        while data := self.read(max(0.0, ends_at - time.monotonic())):
            output = (output + data)[-LIMIT_BYTES:]
        writer.join(timeout=5)
        ended = self.wait()
        return ProgramResult(ended.exit_code, output, ended.stderr)

    def _feed(self, stdin: bytes) -> None:
        self.write(stdin)
        self.end_input()

    def close(self) -> None:
        """Close its input, which ends a payload before its next step; then its session."""
        if self.closed or self._process is None:
            self.closed = True
            return
        self.closed = True
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._end(process)
        self._drain.join(timeout=5)
        process.stdout.close()
        process.stderr.close()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            try:
                process.wait(timeout=patience_s)
                return
            except subprocess.TimeoutExpired:
                continue
