"""What the monitor sees of real processes, and how it brings back those that are frozen."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import stacks
from tests.support.stacks import fake_agent, observed, stack_of
from voiceops.adapters.process import processes
from voiceops.errors import ServiceError
from voiceops.kinds.model import Declared
from voiceops.model.settings import Probe, ServiceBase
from voiceops.model.states import ServiceState
from voiceops.monitor.decide import ServiceRepair
from voiceops.monitor.local_stack import MonitoredStack
from voiceops.stack import operations
from voiceops.stack.local.backend import ProcessBackend
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.model import Instance, Observed
from voiceops.stack.occupancy import OccupiedRooms
from voiceops.stack.stack import Stack


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stacks.end_all(tmp_path)


def monitored(folder: Path, stack: Stack) -> MonitoredStack:
    """The stack as a monitor sees it, everything in it wanted."""
    place = ProjectFolder(folder)
    place.want([one.name for one in stack.outline], True)
    settings = {one.name: ServiceBase() for one in stack.outline}
    return MonitoredStack(stack=stack, folder=place, lock=stack.lock, settings=settings, own_name="")


def frozen_agent(folder: Path, **changes: object) -> tuple[Declared, int]:
    """An agent that the kernel has stopped, and its pid."""
    agent = fake_agent(folder, **changes)
    operations.start(stack_of(folder, agent))
    pid = observed(folder, agent).current[0].pid
    os.kill(pid, signal.SIGSTOP)
    return agent, pid


def repair(*, resume: bool) -> ServiceRepair:
    return ServiceRepair(
        service="agent",
        cause="service-frozen",
        reason="stopped",
        incident="i1",
        attempt=1,
        frozen=True,
        resume=resume,
    )


class EndingBackend(ProcessBackend):
    """Its services end right after they were asked how they are."""

    def observe(self, services: Sequence[Declared]) -> Mapping[str, Observed]:
        found = super().observe(services)
        ending = [process.key for process in stacks.marked(self._folder.root)]
        processes.kill_all(ending)
        return found


class OneCall:
    """A LiveKit with a person and an agent in one room."""

    def occupied(self, servers: Sequence[Instance]) -> OccupiedRooms:
        return OccupiedRooms(rooms=frozenset({"room-a"}), served=frozenset({"room-a"}))

    def hang_up(self, rooms: Sequence[str], servers: Sequence[Instance]) -> None:
        raise AssertionError("the monitor ends no call")


def test_a_service_that_ends_while_it_is_observed_is_dead_at_once(folder: Path) -> None:
    stack = stack_of(folder, stacks.sleeper("one", folder))
    operations.start(stack)
    (well,) = monitored(folder, stack).observe().services
    assert well.state is ServiceState.READY
    found = monitored(folder, replace(stack, backend=EndingBackend(ProjectFolder(folder)))).observe()
    (one,) = found.services
    assert (one.state, "is gone" in one.detail, dict(found.processes)) == (ServiceState.STALE, True, {})


def test_a_frozen_service_is_seen_at_once_and_goes_on_with_its_call(folder: Path) -> None:
    agent, pid = frozen_agent(folder, env={"FAKE_CALLS": "room-a"})
    stack = monitored(folder, replace(stack_of(folder, agent), occupancy=OneCall()))
    (seen,) = stack.observe().services
    assert (seen.frozen, seen.state, "state T" in seen.detail) == (True, ServiceState.UNRESPONSIVE, True)
    stack.repair([repair(resume=True)])
    (after,) = stack.observe().services
    assert (after.frozen, after.state) == (False, ServiceState.READY)
    assert [one.pid for one in observed(folder, agent).instances] == [pid]


def test_an_agent_that_is_frozen_again_is_replaced_and_ends_its_call_first(folder: Path) -> None:
    agent, pid = frozen_agent(folder, env={"FAKE_CALLS": "room-a"})
    stack = monitored(folder, replace(stack_of(folder, agent), occupancy=OneCall()))
    stack.repair([repair(resume=False)])
    states = {one.pid: one.state for one in observed(folder, agent).instances}
    assert states.pop(pid) is ServiceState.DRAINING
    assert list(states.values()) == [ServiceState.READY]


def test_an_agent_without_a_call_that_is_frozen_again_is_ended(folder: Path) -> None:
    agent, pid = frozen_agent(folder)
    monitored(folder, stack_of(folder, agent)).repair([repair(resume=False)])
    (one,) = observed(folder, agent).instances
    assert (one.pid != pid, one.state) == (True, ServiceState.READY)


def test_the_error_of_an_agent_that_does_not_get_ready_names_the_whole_wait(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceops.monitor.local_stack._LOOK_AT_NEEDS_S", 0.2)
    agent = fake_agent(folder, env={"FAKE_SLOW_S": "30"}, ready_timeout_s=1.0)
    with pytest.raises(ServiceError, match="agent is not ready after 1 s"):
        monitored(folder, stack_of(folder, agent)).repair(
            [ServiceRepair(service="agent", cause="service-dead", reason="gone", incident="i1", attempt=1)]
        )


def test_a_service_that_says_late_that_it_is_ready_is_heard(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits looks at its needs now and then: the socket of the service has to stay open meanwhile."""
    monkeypatch.setattr("voiceops.monitor.local_stack._LOOK_AT_NEEDS_S", 0.1)
    said = "import os, socket, time; time.sleep(0.5); address = os.environ['NOTIFY_SOCKET']; "
    said += "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', address); time.sleep(1000)"
    page = Declared(
        name="page",
        kind="command",
        cwd=folder,
        argv=(sys.executable, "-S", "-c", said),
        probe=Probe(notify=True),
        ready_timeout_s=20.0,
    )
    stack = monitored(folder, stack_of(folder, page))
    stack.repair(
        [ServiceRepair(service="page", cause="service-dead", reason="gone", incident="i1", attempt=1)]
    )
    assert [one.state for one in observed(folder, page).instances] == [ServiceState.READY]
    assert list(ProjectFolder(folder).sockets.glob("*.notify")) == []
