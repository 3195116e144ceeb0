"""A Redis for tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import live, parts


@contextmanager
def redis_server(folder: Path, *, password: str = "") -> Iterator[str]:
    """A Redis on loopback that keeps nothing on disk, until the block ends; its ``HOST:PORT``."""
    if not shutil.which("redis-server"):
        parts.missing("redis-server", "install Debian's redis-server")
    port = parts.free_port()
    settings = {"port": str(port), "bind": "127.0.0.1", "save": "", "dir": str(folder)}
    if password:
        settings["requirepass"] = password
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_until_it_listens(port)
        yield f"127.0.0.1:{port}"
    finally:
        live.end(process)


def _wait_until_it_listens(port: int) -> None:
    ends_at = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < ends_at, "redis-server does not listen"
            time.sleep(0.02)
