"""``GET /health`` and ``GET /metrics`` that tell the truth about a worker.

Served by the worker's own event loop on a unix socket and, if asked, on a loopback port:
a loop that is blocked doesn't answer, and that is the right answer.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from voiceops.agentkit.worker import Worker

_MAX_SOCKET_PATH = 103
"""Bytes of a unix socket's path that both Linux (107) and macOS (103) take."""


def health_document(worker: Worker) -> dict[str, object]:
    """What ``/health`` says; with a ``reason`` when the worker can't take a call."""
    document: dict[str, object] = {
        "registered": worker.registered,
        "draining": worker.draining,
        "calls": worker.calls,
        "rooms": worker.rooms,
        "load": round(worker.load, 3),
        "load_limit": worker.load_limit if math.isfinite(worker.load_limit) else None,
        "agent_name": worker.agent_name,
        "proving": bool(worker.proof_name),
        "share": worker.share,
        "taken": list(worker.taken),
        "taken_count": worker.taken_count,
        "failed_count": worker.failed_count,
        "worker_id": worker.worker_id,
        "pid": os.getpid(),
        "max_jobs": worker.max_jobs,
        "refused": worker.refused,
        "refused_for_load": worker.refused_for_load,
        "uptime_s": round(worker.uptime_s, 3),
    }
    if worker.refusal is not None:
        document["reason"] = worker.refusal
    return document


class HealthServer:
    """Answers until ``close()``, which also removes the socket's file."""

    def __init__(
        self,
        worker: Worker,
        *,
        socket_path: str | None = None,
        port: int | None = None,
        metrics: Callable[[], bytes] = lambda: b"",
    ) -> None:
        self._worker = worker
        self._socket_path = Path(socket_path) if socket_path else None
        self._port = port
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self._inode: int | None = None

    async def start(self) -> None:
        """Begin to answer; ``OSError`` when the address is taken."""
        from aiohttp import web

        app = web.Application()
        app.add_routes([web.get("/health", self._health), web.get("/metrics", self._show_metrics)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        if self._socket_path is not None:
            self._clear_stale_socket(self._socket_path)
            with _bindable(self._socket_path) as address:
                await web.UnixSite(self._runner, address).start()
            self._socket_path.chmod(0o600)
            self._inode = self._socket_path.stat().st_ino
        if self._port is not None:
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def close(self) -> None:
        """Stop answering. Safe to call twice."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        path = self._socket_path
        # A successor may already have bound its own socket to the same path.
        if (
            path is not None
            and self._inode is not None
            and path.exists()
            and path.stat().st_ino == self._inode
        ):
            path.unlink()
        self._inode = None

    @staticmethod
    def _clear_stale_socket(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        except FileNotFoundError:
            return

    async def _health(self, request: web.Request) -> web.Response:
        from aiohttp import web

        if request.query.get("server") == "back":
            self._worker.server_is_back()
        document = health_document(self._worker)
        return web.json_response(document, status=503 if "reason" in document else 200)

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(
            body=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


@contextmanager
def _bindable(path: Path) -> Iterator[str]:
    """A name for ``path`` that bind() takes: sockaddr_un has room for about 100 bytes only."""
    if len(os.fsencode(str(path))) <= _MAX_SOCKET_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
