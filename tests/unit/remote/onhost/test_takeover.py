"""Callers of a server that restarts are led to another one, for as long as it is away."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from voiceops.remote.onhost import takeover
from voiceops.remote.onhost.takeover import copies, take_over

_SERVER = """\
import socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
time.sleep(60)
"""
CALLER, WORKER = b"GET /rtc?access_token=a HTTP/1.1\r\n", b"GET /agent HTTP/1.1\r\n"


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that listens, and its port."""
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


@asynccontextmanager
async def echoing() -> AsyncIterator[int]:
    """Another server, which answers with what it hears; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    made = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with made:
        yield made.sockets[0].getsockname()[1]


async def free(port: int) -> None:
    """Wait until somebody may listen on the port."""
    while True:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            await asyncio.sleep(0.01)
        else:
            return


async def test_callers_reach_the_other_server_from_its_end_until_it_starts_again(
    server: tuple[subprocess.Popen[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "_LISTENS_S", 60.0)
    process, port = server
    pidfd = os.pidfd_open(process.pid)
    async with echoing() as other:
        sockets = copies(process.pid, pidfd, port)
        taking = asyncio.create_task(take_over(pidfd, sockets, "127.0.0.1", other))
        process.kill()
        process.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(CALLER)
        assert await asyncio.wait_for(reader.readline(), 10) == CALLER
        from_worker, to_worker = await asyncio.open_connection("127.0.0.1", port)
        to_worker.write(WORKER)
        assert await asyncio.wait_for(from_worker.read(), 10) == b"", "it registers with the one that starts"
        to_worker.close()

        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(free(port), 10)
        writer.write(b"still there\n")
        assert await asyncio.wait_for(reader.readline(), 10) == b"still there\n"
        assert not taking.done()
        writer.close()
        await asyncio.wait_for(taking, 10)
    os.close(pidfd)


async def test_where_nobody_tells_it_the_port_is_free_before_systemd_starts_the_server(
    server: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = server
    pidfd = os.pidfd_open(process.pid)
    sockets = copies(process.pid, pidfd, port)
    process.kill()
    process.wait()
    assert takeover._LISTENS_S < 2.0, "RestartSec of its unit"
    await asyncio.wait_for(take_over(pidfd, sockets, "127.0.0.1", 1), 10)
    socket.create_server(("127.0.0.1", port)).close()
    os.close(pidfd)
