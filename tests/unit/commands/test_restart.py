"""A restart of many hosts: in which batches, and what it waits for behind a livekit-server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from voiceops.commands import restart as restart_module
from voiceops.commands.restart import Restart
from voiceops.errors import ServiceError, UsageError
from voiceops.fleet.run import HostResult
from voiceops.kinds.agent import AgentService
from voiceops.kinds.livekit import LivekitService
from voiceops.model.roles import Role
from voiceops.model.settings import Host, ServiceBase, Settings
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance, Observed

SERVICES: dict[str, ServiceBase] = {"livekit": LivekitService(), "agent": AgentService(entry="agent.py")}
GIVES_UP_S = 0.2


def host(name: str, *run: str) -> Host:
    return Host(
        name=name,
        local=False,
        address=name,
        settings=Settings(project="p", services=dict(SERVICES), run=list(run)),
    )


MEDIA = host("media", "livekit")
DESKS = tuple(host(f"desk{number}", "agent") for number in range(4))


class Hosts:
    """What the agents of hosts look like, one look after the other; the last one stays."""

    def __init__(self, **looks: Sequence[ServiceState]) -> None:
        self._looks = {name: list(states) for name, states in looks.items()}
        self.steps: list[str] = []

    def _seen(self, name: str) -> dict[str, Observed]:
        states = self._looks.get(name, [ServiceState.READY])
        state = states.pop(0) if len(states) > 1 else states[0]
        self.steps.append(f"{name} {state}")
        one = Instance(service="agent", role=Role.AGENT, launch="agent@r1", pid=1, digest="d", state=state)
        return {"agent": Observed(instances=(one,))}

    @contextmanager
    def stack_on(self, run: object, one: Host) -> Iterator[Any]:
        agent = SimpleNamespace(name="agent", is_agent=True, role=Role.AGENT, agent_name="")
        backend = SimpleNamespace(observe=lambda outline: self._seen(one.name))
        yield SimpleNamespace(outline=(agent,), backend=backend, after_server=self._look_for_callers)

    def _look_for_callers(self, names: Sequence[str], rooms: Callable[[], frozenset[str] | None]) -> None:
        self.steps.append(f"who has called {len(names)} agent")


@pytest.fixture
def restart(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, HostResult[str]]]:
    """Restart hosts whose agents are as given; what came of each."""
    monkeypatch.setattr(restart_module, "_REGISTER_AGAIN_S", GIVES_UP_S)
    monkeypatch.setattr(restart_module, "_POLL_S", 0.001)
    monkeypatch.setattr(restart_module, "proof_calls", lambda project, say: None)

    def run(
        hosts: Hosts, chosen: Sequence[Host], *, serial: str = "", max_fail: int = 0, failing: str = ""
    ) -> dict[str, HostResult[str]]:
        monkeypatch.setattr(restart_module, "stack_on", hosts.stack_on)
        command: Any = SimpleNamespace(project=None, say=None, yes=False)

        def work(one: Host) -> str:
            hosts.steps.append(f"restart {one.name}")
            if one.name == failing:
                raise ServiceError("it did not come up")
            return one.name

        return Restart(cast(Any, command), serial=serial, max_fail=max_fail, call=False).run(chosen, work)

    return run


def test_behind_a_restarted_server_it_waits_until_agents_elsewhere_are_registered_again(
    restart: Callable[..., Any],
) -> None:
    hosts = Hosts(
        desk0=[ServiceState.READY, ServiceState.STARTING, ServiceState.STARTING, ServiceState.READY]
    )
    done = restart(hosts, [MEDIA, DESKS[0]])
    assert all(one.ok for one in done.values())
    waits = ["desk0 starting", "desk0 starting", "desk0 ready"]
    assert hosts.steps == ["desk0 ready", "restart media", *waits, "who has called 1 agent", "restart desk0"]


def test_agents_that_never_register_again_stop_the_restart_and_are_named(restart: Callable[..., Any]) -> None:
    hosts = Hosts(desk0=[ServiceState.READY, ServiceState.STARTING])
    done = restart(hosts, [MEDIA, DESKS[0]])
    assert "agent of desk0 has not registered again" in done["media"].error.message
    assert done["desk0"].skipped == "left as it is, because media failed"
    assert "restart desk0" not in hosts.steps


def test_an_agent_that_was_not_ready_before_is_not_waited_for(restart: Callable[..., Any]) -> None:
    hosts = Hosts(desk0=[ServiceState.STARTING])
    assert all(one.ok for one in restart(hosts, [MEDIA, DESKS[0]]).values())
    assert hosts.steps == ["desk0 starting", "restart media", "restart desk0"]


@pytest.mark.parametrize(
    ("serial", "max_fail", "restarted"),
    [
        pytest.param("", 0, 2, id="one-by-one"),
        pytest.param("2", 0, 3, id="the-first-alone-then-two"),
        pytest.param("100%", 0, 4, id="the-first-alone-then-all"),
        pytest.param("1", 1, 4, id="one-may-fail"),
    ],
)
def test_batches_end_with_the_first_in_which_more_fail_than_may(
    restart: Callable[..., Any], serial: str, max_fail: int, restarted: int
) -> None:
    hosts = Hosts()
    done = restart(hosts, DESKS, serial=serial, max_fail=max_fail, failing="desk1")
    assert sorted(hosts.steps) == [f"restart desk{number}" for number in range(restarted)]
    assert hosts.steps[0] == "restart desk0"
    assert [bool(done[one.name].skipped) for one in DESKS] == [number >= restarted for number in range(4)]


@pytest.mark.parametrize("serial", ["0", "half", "101%", "-1"])
def test_a_serial_that_is_no_number_of_hosts_is_refused(restart: Callable[..., Any], serial: str) -> None:
    with pytest.raises(UsageError, match="--serial"):
        restart(Hosts(), DESKS, serial=serial)
