"""``/health`` and ``/metrics`` over a unix socket and a loopback port."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from tests.support import parts
from voiceops.agentkit.health import HealthServer, health_document
from voiceops.agentkit.worker import Worker


class FakeWorker:
    """What health reads of a worker."""

    registered = True
    draining = False
    calls = 1
    rooms = ("r",)
    load = 0.25
    load_limit = 0.7
    refused = 0
    refused_for_load = 0
    agent_name = "front"
    proof_name = ""
    share = 1.0
    taken = ("r",)
    taken_count = 1
    failed_count = 0
    worker_id = "AW_1"
    max_jobs = 3
    uptime_s = 5.0
    refusal: str | None = None


def server(worker: FakeWorker, **options: Any) -> HealthServer:
    return HealthServer(cast(Worker, worker), **options)


@asynccontextmanager
async def get(path: Path, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
        http.get(f"http://agent{url}") as answer,
    ):
        yield answer


@pytest.mark.parametrize("reason", ["draining", "not registered with LiveKit", "at its limit of 3 calls"])
async def test_health_is_503_with_the_reason_when_it_can_not_take_a_call(tmp_path: Path, reason: str) -> None:
    worker = FakeWorker()
    worker.refusal = reason
    health = server(worker, socket_path=str(tmp_path / "h"))
    await health.start()
    try:
        async with get(tmp_path / "h", "/health") as answer:
            assert answer.status == 503
            assert (await answer.json())["reason"] == reason
    finally:
        await health.close()


async def test_health_and_metrics_are_served_on_socket_and_port(tmp_path: Path) -> None:
    port = parts.free_port()
    health = server(FakeWorker(), socket_path=str(tmp_path / "h"), port=port, metrics=lambda: b"calls 1\n")
    await health.start()
    try:
        async with get(tmp_path / "h", "/health") as answer:
            assert answer.status == 200
            assert set(await answer.json()) == {
                "registered", "draining", "calls", "rooms", "load", "load_limit", "agent_name", "proving", "share", "taken", "taken_count", "failed_count", "worker_id", "pid",
                "max_jobs", "refused", "refused_for_load", "uptime_s"
            }  # fmt: skip
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert await answer.read() == b"calls 1\n"
    finally:
        await health.close()
    assert not (tmp_path / "h").exists()


async def test_a_socket_left_by_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "h"))
    health = server(FakeWorker(), socket_path=str(tmp_path / "h"))
    await health.start()
    try:
        async with get(tmp_path / "h", "/health") as answer:
            assert answer.status == 200
    finally:
        await health.close()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("precious")
    health = server(FakeWorker(), socket_path=str(tmp_path / "h"))
    with pytest.raises(OSError):
        await health.start()
    await health.close()

    assert (tmp_path / "h").read_text() == "precious"


async def test_closing_leaves_the_socket_of_a_successor(tmp_path: Path) -> None:
    old, new = (server(FakeWorker(), socket_path=str(tmp_path / "h")) for _ in range(2))
    await old.start()
    await new.start()
    await old.close()
    try:
        async with get(tmp_path / "h", "/health") as answer:
            assert answer.status == 200
    finally:
        await new.close()


async def test_a_path_too_long_for_a_socket_address_works(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    health = server(FakeWorker(), socket_path=str(folder / "h"))
    await health.start()
    try:
        assert (folder / "h").is_socket()
    finally:
        await health.close()
    assert not (folder / "h").exists()


def test_the_document_has_no_reason_when_all_is_well() -> None:
    assert "reason" not in health_document(cast(Worker, FakeWorker()))
