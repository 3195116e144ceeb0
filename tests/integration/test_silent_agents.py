"""An agent that does not answer is not one without calls: whoever ends it asks the server first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import stacks
from tests.support.stacks import fake_agent, observed, stack_of
from voiceops.adapters.process import processes
from voiceops.errors import CallsInProgressError, CallsUnknownError, UnreachableError, VoiceopsError
from voiceops.stack import operations
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.model import Instance
from voiceops.stack.occupancy import CallKnowledge, OccupiedRooms


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stacks.end_all(tmp_path)


class OneServer:
    """A LiveKit with these rooms, each with a person and an agent in it."""

    def __init__(self, *rooms: str, cause: VoiceopsError | None = None) -> None:
        known = CallKnowledge.KNOWN if cause is None else CallKnowledge.UNKNOWN
        self.answer = OccupiedRooms(
            knowledge=known, rooms=frozenset(rooms), served=frozenset(rooms), cause=cause
        )

    def occupied(self, servers: Sequence[Instance]) -> OccupiedRooms:
        return self.answer

    def hang_up(self, rooms: Sequence[str], servers: Sequence[Instance]) -> None:
        return


@pytest.fixture
def mute(folder: Path) -> int:
    """The pid of an agent with a call that can't say so: the kernel has stopped it."""
    agent = fake_agent(folder, env={"FAKE_CALLS": "room-a"})
    operations.start(stack_of(folder, agent))
    pid = observed(folder, agent).current[0].pid
    os.kill(pid, signal.SIGSTOP)
    return pid


@pytest.mark.parametrize(
    ("server", "error"),
    [
        (OneServer("room-a"), CallsInProgressError),
        (OneServer(cause=UnreachableError("too late")), CallsUnknownError),
    ],
)
def test_an_agent_that_does_not_answer_is_not_one_without_calls(
    folder: Path, mute: int, server: OneServer, error: type[CallsInProgressError]
) -> None:
    stack = replace(stack_of(folder, fake_agent(folder)), occupancy=server)
    with pytest.raises(error):
        operations.stop(stack)
    with pytest.raises(CallsInProgressError):  # it is let go on, drains, and names its call itself
        operations.stop(stack, drain_s=0.2)
    assert processes.find(mute) is not None
    operations.stop(stack, drop_calls=True)
    assert stacks.marked(folder) == []


def test_an_agent_that_does_not_answer_is_ended_when_the_server_sees_nobody(folder: Path, mute: int) -> None:
    operations.stop(replace(stack_of(folder, fake_agent(folder)), occupancy=OneServer()))
    assert stacks.marked(folder) == []


def test_start_replaces_an_agent_that_does_not_answer_and_lets_it_finish_its_call(
    folder: Path, mute: int
) -> None:
    stack = replace(stack_of(folder, fake_agent(folder)), occupancy=OneServer("room-a"))
    result = operations.start(stack)["agent"]
    assert (result.action, result.draining) == ("overlap", [mute])
    assert operations.check(stack)["agent"].ok
    assert processes.find(mute) is not None
    log = ProjectFolder(folder).log_file("agent").read_text()
    assert log.count("got SIGTERM") == 1
    assert "second signal" not in log
