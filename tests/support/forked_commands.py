"""Run ``voiceops`` commands in processes forked off one that has imported voiceops already.

Imports are most of the CPU time of a command, and the tests run more than a thousand. Everything else is as with
``python -m voiceops``: each command is a process with a folder, environment, arguments, streams and an exit code of its
own. Tests of how a command begins (completion, ``./inv``, terminals, signals) start it themselves, and so do benches.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[2]
_MESSAGE_BYTES = 1 << 18


def run_command(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m voiceops ARGUMENTS`` to its end; ``TimeoutExpired`` after it was killed."""
    settings = _interpreter_settings(env)
    with _lock:
        if "PYTEST_VERSION" in os.environ and not _servers:
            _servers.append(_Server(settings))
    for server in _servers:
        if settings == server.settings:
            return server.run(arguments, cwd, env, timeout_s)
    return subprocess.run(
        [sys.executable, "-m", "voiceops", *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _interpreter_settings(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that Python reads when it starts: only commands that share them can share a server."""
    return {name: text for name, text in env.items() if name.startswith(("PYTHON", "LC_", "LANG", "LD_"))}


class _Server:
    """The process that commands are forked off; it ends with this one."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = dict(settings)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=REPOSITORY,
                env={"PATH": os.environ.get("PATH", ""), **settings},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def run(
        self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        request = json.dumps({"arguments": [*arguments], "cwd": str(cwd), "env": dict(env)})
        with ExitStack() as files:
            ours, theirs = [], [files.enter_context(open(os.devnull, "rb")).fileno()]
            writers = []
            for _ in range(3):
                read, write = os.pipe()
                ours.append(files.enter_context(open(read, "rb", buffering=0)).fileno())
                writers.append(files.enter_context(open(write, "wb", buffering=0)))
            theirs += [writer.fileno() for writer in writers]
            socket.send_fds(self._socket, [request.encode()], theirs)
            for writer in writers:
                writer.close()
            out, err, status = _read_all(ours, [*arguments], timeout_s)
        return subprocess.CompletedProcess(arguments, int(status.split()[1]), out.decode(), err.decode())


def _read_all(files: Sequence[int], arguments: list[str], timeout_s: float) -> list[bytes]:
    """What comes from each until all are closed; the last one begins with the pid to kill when it takes too long."""
    ends_at = time.monotonic() + timeout_s
    texts = dict.fromkeys(files, b"")
    with selectors.DefaultSelector() as selector:
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, ends_at - time.monotonic())):
                read = os.read(key.fd, 1 << 16)
                texts[key.fd] += read
                if not read:
                    selector.unregister(key.fd)
            if time.monotonic() >= ends_at:
                with suppress(ProcessLookupError):
                    os.kill(int(texts[files[-1]].split()[0]), signal.SIGKILL)
                raise subprocess.TimeoutExpired(["voiceops", *arguments], timeout_s)
    return list(texts.values())


_lock = threading.Lock()
_servers: list[_Server] = []
"""At most one, made at the first command of a test run."""


def _import_commands() -> None:
    from voiceops.__main__ import import_invoke

    import_invoke()  # as a command does it: before something else imports what it spares
    for name in ("voiceops.commands", "voiceops.wiring"):
        for module in pkgutil.iter_modules(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(module.name)
    for name in ("voiceops.cli.program", "voiceops.tasks", "aiohttp", "livekit.api", "fabric", "jinja2"):
        importlib.import_module(name)
    assert threading.active_count() == 1, "a thread would not be there in the forked process"


class _Forks:
    """The commands that run, in the process that forks them."""

    def __init__(self, asked: socket.socket) -> None:
        self._asked = asked
        self._news, waker = os.pipe()
        os.set_blocking(self._news, False)
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._status: dict[int, int] = {}
        """pid -> where to tell how it ended."""

    def serve(self) -> dict[str, Any]:
        """Fork a process for each request; returns in the forked one, and never in this one."""
        with selectors.DefaultSelector() as selector:
            for file in (self._asked.fileno(), self._news):
                selector.register(file, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._news in ready:
                    self._tell_ends()
                if self._asked.fileno() in ready:
                    data, files, _, _ = socket.recv_fds(self._asked, _MESSAGE_BYTES, 4)
                    if not data:
                        os._exit(0)
                    *streams, status = files
                    if (pid := os.fork()) == 0:
                        self._leave([status])
                        for number, file in enumerate(streams):
                            os.dup2(file, number)
                            os.close(file)
                        request: dict[str, Any] = json.loads(data)
                        return request
                    os.write(status, f"{pid} ".encode())
                    self._status[pid] = status
                    for file in streams:
                        os.close(file)

    def _tell_ends(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._news, 1 << 12)
        for pid, status in list(self._status.items()):
            ended, how = os.waitpid(pid, os.WNOHANG)
            if ended:
                with suppress(BrokenPipeError):  # nobody waits any more
                    os.write(status, str(os.waitstatus_to_exitcode(how)).encode())
                os.close(self._status.pop(pid))

    def _leave(self, files: list[int]) -> None:
        """Keep nothing of this in the forked process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._asked.close()
        for file in (*files, *self._status.values()):
            os.close(file)


def _run_and_exit(request: Mapping[str, Any]) -> NoReturn:
    """Run the command and end as the interpreter does, but without taking apart all that was imported."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]
    sys.argv = [str(REPOSITORY / "voiceops" / "__main__.py"), *request["arguments"]]
    from voiceops.__main__ import main

    code = 0
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def _main() -> None:
    _import_commands()
    gc.collect()
    gc.freeze()  # a collection in a forked process would copy what they share
    _run_and_exit(_Forks(socket.socket(fileno=int(sys.argv[1]))).serve())


if __name__ == "__main__":
    _main()
