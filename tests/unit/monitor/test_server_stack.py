"""The units of a host as its monitor sees and repairs them; systemd and the root helper are pretended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from voiceops.errors import CallsInProgressError, CallsUnknownError, UnreachableError
from voiceops.kinds.agent import AgentService
from voiceops.kinds.command import CommandService
from voiceops.kinds.livekit import LivekitService
from voiceops.kinds.model import Declared
from voiceops.kinds.monitor import MonitorService
from voiceops.model.roles import Role
from voiceops.model.settings import ServiceBase
from voiceops.model.states import ServiceState
from voiceops.monitor.decide import ServiceObservation, ServiceRepair
from voiceops.monitor.server_stack import MonitoredServer
from voiceops.stack.model import Instance
from voiceops.stack.occupancy import CallKnowledge, OccupiedRooms
from voiceops.systemd.names import HostNames

SERVICES: dict[str, ServiceBase] = {
    "livekit": LivekitService(),
    "agent": AgentService(entry="tasks.py", needs=["livekit"]),
    "web": CommandService(command=["web"]),
    "monitor": MonitorService(),
}
NO_CALLS = OccupiedRooms()
A_CALL = OccupiedRooms(rooms=frozenset({"r"}), served=frozenset({"r"}))
UNKNOWN = OccupiedRooms(knowledge=CallKnowledge.UNKNOWN, cause=UnreachableError("LiveKit is silent"))


class PretendedLivekit:
    """A LiveKit that says what a test wants."""

    def __init__(self, answer: OccupiedRooms) -> None:
        self.answer = answer

    def occupied(self, servers: Sequence[Instance]) -> OccupiedRooms:
        return self.answer

    def hang_up(self, rooms: Sequence[str], servers: Sequence[Instance]) -> None:
        raise AssertionError("a monitor ends no calls")


def unit(name: str, pid: int, **changed: str) -> dict[str, str]:
    service = name.removeprefix("desk-").partition("@")[0].removesuffix(".service")
    return {
        "Id": name,
        "Type": "notify",
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "Job": "",
        "MainPID": str(pid),
        "Environment": f"VOICEOPS_UNIT=desk/{service}",
        "UnitFileState": "enabled",
        **changed,
    }


class Host:
    """A host with one unit for each service; each main process is a child of this test."""

    def __init__(self, answer: OccupiedRooms = NO_CALLS) -> None:
        self.livekit = PretendedLivekit(answer)
        self.restarted: list[str] = []
        self.child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.units = {
            "livekit": unit("desk-livekit.service", self.child.pid),
            "agent": unit("desk-agent@r1.service", self.child.pid),
            "web": unit("desk-web.service", self.child.pid),
        }
        roles = {"livekit": Role.SERVER, "agent": Role.AGENT}
        self.stack = MonitoredServer(
            names=HostNames("desk"),
            outline=[
                Declared(
                    name=name,
                    kind=one.kind,
                    role=roles.get(name, Role.OTHER),
                    cwd=Path("/"),
                    needs=tuple(one.needs),
                )
                for name, one in SERVICES.items()
            ],
            settings=SERVICES,
            own_name="monitor",
            occupancy=self.livekit,
            restart=self._restart,
            show=lambda properties, *patterns: list(self.units.values()),
        )

    def _restart(self, name: str) -> None:
        self.restarted.append(name)
        raise UnreachableError("a test waits for no unit")

    def seen(self) -> dict[str, ServiceObservation]:
        return {one.name: one for one in self.stack.observe().services}

    def repair(self, service: str, cause: str, *, frozen: bool = False, resume: bool = False) -> None:
        repair = ServiceRepair(
            service=service,
            cause=cause,
            reason="",
            incident="i",
            attempt=1,
            frozen=frozen,
            resume=resume,
        )
        self.stack.observe()
        self.stack.repair([repair])


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.child.kill()
    made.child.communicate()


def test_it_watches_all_but_itself(host: Host) -> None:
    assert set(host.seen()) == {"livekit", "agent", "web"}


@pytest.mark.parametrize(
    ("changed", "state", "wanted"),
    [
        ({}, ServiceState.READY, True),
        ({"SubState": "auto-restart", "ActiveState": "activating", "MainPID": "0"}, ServiceState.STALE, True),
        ({"MainPID": "0"}, ServiceState.STALE, True),
        ({"ActiveState": "deactivating", "MainPID": "0"}, ServiceState.STALE, True),
        ({"ActiveState": "deactivating", "Job": "7"}, ServiceState.DRAINING, False),
        ({"ActiveState": "inactive", "MainPID": "0"}, ServiceState.MISSING, False),
        (
            {
                "ActiveState": "failed",
                "MainPID": "0",
                "ExecMainExitTimestampMonotonic": "1000000",
                "InactiveEnterTimestampMonotonic": "3000000",
            },
            ServiceState.FAILED,
            True,
        ),
        ({"ActiveState": "failed", "MainPID": "0"}, ServiceState.FAILED, False),
    ],
)
def test_the_state_of_a_unit_as_the_monitor_decides_on_it(
    host: Host, changed: dict[str, str], state: ServiceState, wanted: bool
) -> None:
    host.units["web"] |= changed
    seen = host.seen()["web"]
    assert (seen.state, seen.wanted) == (state, wanted)


def test_a_service_without_a_unit_is_not_wanted(host: Host) -> None:
    del host.units["web"]
    assert host.seen()["web"].wanted is False


def test_a_process_that_the_kernel_has_stopped_is_seen_and_goes_on_without_the_helper(host: Host) -> None:
    os.kill(host.child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, host.child.pid, os.WSTOPPED | os.WNOWAIT)
    assert host.seen()["web"].frozen
    # As the main process of a unit it leads a session; here it is in that of the test.
    host.repair("web", "service-frozen", frozen=True, resume=True)
    assert host.restarted == []


def test_two_instances_of_an_agent_are_left_to_the_deploy_that_began_them(host: Host) -> None:
    host.units["second"] = unit("desk-agent@r2.service", host.child.pid, UnitFileState="disabled")
    seen = host.seen()["agent"]
    assert (seen.state, seen.policy) == (ServiceState.DUPLICATE, "never")


def test_a_dead_unit_is_restarted_whoever_is_in_a_call(host: Host) -> None:
    host.livekit.answer = UNKNOWN
    host.units["agent"] |= {"SubState": "auto-restart", "ActiveState": "activating", "MainPID": "0"}
    with pytest.raises(UnreachableError):
        host.repair("agent", "service-dead")
    assert host.restarted == ["desk-agent@r1.service"]


@pytest.mark.parametrize("service", ["agent", "livekit"])
@pytest.mark.parametrize(("answer", "error"), [(A_CALL, CallsInProgressError), (UNKNOWN, CallsUnknownError)])
def test_what_lives_is_not_restarted_where_that_ends_calls_or_might(
    host: Host, service: str, answer: OccupiedRooms, error: type[Exception]
) -> None:
    host.livekit.answer = answer
    with pytest.raises(error):
        host.repair(service, "service-unresponsive")
    host.repair(service, "service-frozen", frozen=True)
    assert host.restarted == [], "a frozen one is made to go on instead"


@pytest.mark.parametrize("service", ["agent", "livekit"])
def test_what_lives_is_restarted_where_livekit_says_that_nobody_is_in_a_call(
    host: Host, service: str
) -> None:
    with pytest.raises(UnreachableError):
        host.repair(service, "service-unresponsive")
    assert host.restarted == [host.units[service]["Id"]]


def test_an_agent_without_an_answer_says_nothing_of_its_rooms(host: Host) -> None:
    host.seen()
    assert host.stack.lost_workers(0.0) is None
