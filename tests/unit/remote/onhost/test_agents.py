"""What untrusted processes answer to root: bounded in time and size, and an object or nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from voiceops.remote.onhost import agents

HEAD = b"HTTP/1.0 200 OK\r\n\r\n"
MEGABYTE = 1 << 20


@contextmanager
def served(act: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """A server on loopback that does this to one client."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                try:
                    act(client)
                except OSError:
                    return  # it hung up, as it should

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()
        finally:
            thread.join(20)


def asked(act: Callable[[socket.socket], None], *, within_s: float = 5.0) -> Any:
    with served(act) as address, socket.socket() as connection:
        return agents.http_answer(connection, address, "/health", time.monotonic() + within_s)


def says(text: str) -> Callable[[socket.socket], None]:
    def act(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(HEAD + text.encode())

    return act


def test_an_object_that_arrives_in_time_is_the_answer() -> None:
    assert asked(says('{"calls": 2}')) == {"calls": 2}


def test_one_that_drips_for_ever_is_given_up_after_the_whole_time() -> None:
    def drip(client: socket.socket) -> None:
        while True:
            client.sendall(b" ")
            time.sleep(0.05)

    began = time.monotonic()
    assert asked(drip, within_s=0.5) is None
    assert time.monotonic() - began < 3


def test_of_one_that_floods_hardly_more_than_a_megabyte_is_read() -> None:
    sent: list[int] = []

    def flood(client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        for _ in range(100):
            client.sendall(bytes(MEGABYTE))
            sent.append(MEGABYTE)

    assert asked(flood, within_s=20) is None
    assert sum(sent) < 10 * MEGABYTE, "buffers of the kernel on both sides are all that goes beyond"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 100_000,
        "[1]",
        "5",
        '"text"',
        "null",
        "",
        "{",
        '{"a": "\\ud8"}',
        "\x00" * 1000,
    ],
)
def test_what_is_no_object_is_no_answer(text: str) -> None:
    assert asked(says(text)) is None


def test_a_number_of_a_million_digits_costs_no_time() -> None:
    began = time.monotonic()
    assert asked(says(json.dumps({"calls": 1})[:-1] + ', "n": ' + "9" * 900_000 + "}"))["calls"] == 1
    assert time.monotonic() - began < 5
