"""sd_notify to whoever started the process."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from voiceops.agentkit import Notifier


@pytest.fixture(params=["file", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A bound socket and what NOTIFY_SOCKET says of it."""
    if request.param == "abstract" and not sys.platform.startswith("linux"):
        pytest.skip("abstract sockets are Linux's")
    name = f"@voiceops-{secrets.token_hex(8)}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        receiver.settimeout(5)
        yield receiver, name


def test_messages_reach_sockets_in_the_file_system_and_in_the_abstract_namespace(
    listener: tuple[socket.socket, str],
) -> None:
    receiver, name = listener
    notifier = Notifier({"NOTIFY_SOCKET": name})

    assert notifier.ready("registered, 0 calls")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=registered, 0 calls"
    assert notifier.alive()
    assert receiver.recv(4096) == b"WATCHDOG=1"
    assert notifier.stopping()
    assert receiver.recv(4096) == b"STOPPING=1"


def test_a_status_can_not_smuggle_another_assignment(listener: tuple[socket.socket, str]) -> None:
    receiver, name = listener

    Notifier({"NOTIFY_SOCKET": name}).status("one\nMAINPID=1")

    assert receiver.recv(4096) == b"STATUS=one MAINPID=1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens-here", "x" * 500])
def test_without_a_listener_nothing_happens(address: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": address}).ready()


def test_a_listener_that_ended_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    notifier = Notifier({"NOTIFY_SOCKET": str(path)})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        assert notifier.ready()

    assert not notifier.status("still here")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "4000000"}, 2.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_per_period_and_only_by_the_process_that_is_asked(
    environment: dict[str, str], expected: float | None
) -> None:
    assert Notifier(environment).watchdog_s == expected
