"""One suite on both ways to a host: this machine, and a real host over ssh with sudo."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support import hosts
from voiceops.adapters.process.local import LocalTransport
from voiceops.adapters.ssh.target import SshTarget
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.errors import DeadlineError, UnreachableError
from voiceops.ports import Transport


@pytest.fixture(params=["local", "ssh"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    made: Transport
    if request.param == "local":
        made = LocalTransport()
    else:
        machine: hosts.Machine = request.getfixturevalue("host")
        made = SshTransport(
            SshTarget(
                name=machine.name,
                address=machine.address,
                user="deploy",
                key_file=machine.key_path,
                known_hosts=(machine.known_hosts,),
            )
        )
    yield made
    made.close()


def test_arguments_arrive_as_they_were_given(transport: Transport) -> None:
    hostile = ["a b", "$(id)", "`id`", "'", '"', "\\", "*", "", "new\nline", "ünïcödé", "-n", "%s"]
    ended = transport.run(["printf", "%s\\0", *hostile])
    assert ended.stdout.decode().split("\0")[:-1] == hostile


def test_input_output_and_exit_code_pass_through(transport: Transport) -> None:
    ended = transport.run(["sh", "-c", "cat; echo oops >&2; exit 7"], stdin=b"in\x00put")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (7, b"in\x00put", b"oops\n")


def test_a_program_that_is_not_there_is_exit_127(transport: Transport) -> None:
    assert transport.run(["voiceops-nonesuch"]).exit_code == 127


def test_root_is_root(transport: Transport) -> None:
    assert transport.run(["id", "-u"], root=True).stdout == b"0\n"
    assert transport.run(["sh", "-c", "cat; echo e >&2; exit 3"], stdin=b"x", root=True).exit_code == 3


def test_of_endless_output_the_end_is_kept(transport: Transport) -> None:
    ended = transport.run(["sh", "-c", "head -c 3000000 /dev/zero; echo end"])
    assert len(ended.stdout) <= 1 << 20
    assert ended.stdout.endswith(b"end\n")


def test_much_input_that_nobody_reads_blocks_nothing(transport: Transport) -> None:
    assert transport.run(["true"], stdin=bytes(100_000)).exit_code == 0


def test_silence_ends_at_the_deadline(transport: Transport) -> None:
    with closing(transport.start(["sleep", "60"])) as process, pytest.raises(DeadlineError):
        process.read(0.1)


def test_lines_come_as_they_are_printed(transport: Transport) -> None:
    with closing(transport.start(["sh", "-c", "echo one; read go; echo two"])) as process:
        assert process.read(10) == b"one\n"
        process.write(b"go\n")
        assert process.read(10) == b"two\n"
        assert process.read(10) == b""
        assert process.wait().exit_code == 0


def test_closing_from_another_thread_ends_a_read(transport: Transport) -> None:
    process = transport.start(["sh", "-c", "echo up; sleep 60"])
    assert process.read(10) == b"up\n"
    closer = threading.Timer(0.2, transport.close)
    closer.start()
    started = time.monotonic()
    with contextlib.suppress(UnreachableError):  # either way of saying that it is over
        assert process.read(30) == b""
    closer.join()
    assert time.monotonic() - started < 15
