"""A real livekit-server and real agent workers for tests, on free ports, without voiceops in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import parts

API_KEY = "testkey"
API_SECRET = "a-secret-for-tests-only-32-characters-long"


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A running livekit-server."""

    port: int
    pid: int
    folder: Path
    api_key: str = API_KEY
    api_secret: str = API_SECRET

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.folder / "livekit.log"

    def environment(self) -> dict[str, str]:
        """What livekit-agents and livekit-api read."""
        return {
            "LIVEKIT_URL": self.url,
            "LIVEKIT_API_KEY": self.api_key,
            "LIVEKIT_API_SECRET": self.api_secret,
        }


def server_config(port: int, *, api_secret: str = API_SECRET, extra: dict[str, object] | None = None) -> str:
    """A loopback-only configuration as JSON, which is YAML."""
    config: dict[str, object] = {
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "keys": {API_KEY: api_secret},
        "rtc": {
            "tcp_port": parts.free_port(),
            "udp_port": parts.free_port(),
            "use_external_ip": False,
            "enable_loopback_candidate": True,
            "node_ip": "127.0.0.1",
            "ips": {"includes": ["127.0.0.1/32"]},
            # By default the server hands public STUN servers to clients.
            "stun_servers": ["127.0.0.1:9"],
        },
        "logging": {"level": "info", "json": True},
    }
    return json.dumps(config | (extra or {}))


@contextmanager
def livekit_server(
    folder: Path, *, port: int | None = None, extra: dict[str, object] | None = None
) -> Iterator[LiveServer]:
    """Run a server in ``folder`` until the block ends."""
    port = port or parts.free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "livekit.yaml"
    config.write_text(server_config(port, extra=extra))
    with (folder / "livekit.log").open("ab") as log:
        process = subprocess.Popen(
            [str(parts.livekit_server_binary()), "--config", str(config)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for_http(process, port, folder / "livekit.log")
        yield LiveServer(port=port, pid=process.pid, folder=folder)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that this test started, with its session, and reap it."""
    try:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(timeout=10)


def _wait_for_http(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise AssertionError(f"livekit-server did not answer:\n{log.read_text()[-2000:]}")


@contextmanager
def worker(
    server: LiveServer, entry: Path, *, agentkit: bool = False, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an agent worker until the block ends; yields once it has registered."""
    module = "voiceops.agentkit" if agentkit else "livekit.agents"
    log_file = server.folder / f"worker-{time.monotonic_ns()}.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "start", str(entry)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            # Without the load limit: a busy test machine must not make workers refuse calls.
            env=os.environ
            | server.environment()
            | {"PYTHONPATH": os.getcwd(), "VOICEOPS_LOAD_LIMIT": "off", "TONE_JOBS": "thread"}
            | (env or {}),
        )
    try:
        wait_for_line(process, log_file, "registered worker")
        yield process
    finally:
        end(process)


def wait_for_line(
    process: subprocess.Popen[bytes], log_file: Path, text: str, *, timeout_s: float = 60
) -> None:
    """Wait until ``text`` stands in the log of a process that must stay alive."""
    ends_at = time.monotonic() + timeout_s
    while time.monotonic() < ends_at:
        if text in log_file.read_text(errors="replace"):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"no {text!r} in the log (exit {process.poll()}):\n{log_file.read_text()[-3000:]}")
