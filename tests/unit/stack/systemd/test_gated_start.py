"""A run that replaces another one: callers reach it once it is proved, and otherwise it is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from voiceops.deadline import Deadline
from voiceops.errors import HostError, ServiceError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.backend import StopForce
from voiceops.stack.model import Instance, Observed
from voiceops.stack.stack import Canary
from voiceops.stack.systemd.backend import Gate
from voiceops.stack.systemd.gated_start import gated_start

AGENT = Declared(name="agent", kind="agent", role=Role.AGENT, cwd=Path("/"), release="r2", digest="r2")
STARTED = Instance(service="agent", launch="agent@r2", pid=2, digest="r2", state=ServiceState.STARTING)


class Backend:
    """Notes what is asked of it; ``knows_gates``: the agent says that it waits for its proof."""

    settle_s = 1.5

    def __init__(
        self,
        *,
        knows_gates: bool = True,
        opening: BaseException | None = None,
        looked: ServiceError | None = None,
    ) -> None:
        self.knows_gates = knows_gates
        self.looked = looked
        """What the host says of it after a failed call."""
        self.opening = opening
        """What comes of the request to open the gate, instead of an agent that takes calls."""
        self.steps: list[object] = []

    def start(self, service: Declared, *, proof_name: str = "") -> Instance:
        self.steps.append(("start", bool(proof_name)))
        return STARTED

    def wait_ready(
        self,
        service: Declared,
        instance: Instance,
        limit: Deadline,
        *,
        not_worker_id: str = "",
        gate: Gate = Gate.NONE,
        pid: int = 0,
        share: float = 1.0,
    ) -> Instance:
        step = (gate, not_worker_id) if not pid else (gate, not_worker_id, pid)
        self.steps.append(step if share == 1 else (*step, share))
        if gate is Gate.CLOSED and pid and self.looked is not None:
            raise self.looked
        if gate is Gate.OPEN and self.opening is not None:
            raise self.opening
        return replace(STARTED, worker_id="AW_1", proving=self.knows_gates and gate is Gate.CLOSED)

    def observe(self, services: Sequence[Declared]) -> dict[str, Observed]:
        return {"agent": Observed(instances=(replace(STARTED, pid=3),))}

    def end(self, instance: Instance, limit: Deadline, force: StopForce) -> bool:
        self.steps.append(force)
        return True


def start(backend: Backend, *, fails: bool = False) -> Instance:
    def prove(service: Declared, name: str, ended: Callable[[], bool]) -> None:
        backend.steps.append(f"prove {name[:6]}")
        if fails:
            raise ServiceError("it is silent", log_tail=("its line",), data={"service": "agent"})

    return gated_start(cast(Any, backend), AGENT, Deadline(30, "the test"), prove)


def test_it_is_proved_before_its_gate_is_opened() -> None:
    backend = Backend()
    assert not start(backend).proving
    assert backend.steps == [("start", True), (Gate.CLOSED, ""), "prove proof-", (Gate.OPEN, "AW_1", 2)]


def test_one_that_fails_is_ended_and_its_gate_is_never_opened() -> None:
    backend = Backend()
    with pytest.raises(ServiceError, match="it is silent"):
        start(backend, fails=True)
    look = (Gate.CLOSED, "", 2)
    assert backend.steps == [("start", True), (Gate.CLOSED, ""), "prove proof-", look, StopForce.KILL]


def test_one_that_has_ended_while_it_was_called_is_told_so_beside_what_its_caller_heard() -> None:
    backend = Backend(looked=ServiceError("it did not stay up"))
    with pytest.raises(ServiceError) as failed:
        start(backend, fails=True)
    assert failed.value.message == "it is silent; it did not stay up"
    assert failed.value.log_tail == ("its line",)
    assert backend.steps[-1] is StopForce.KILL


@pytest.mark.parametrize("cut", [KeyboardInterrupt(), HostError("the connection was cut")])
def test_one_whose_gate_may_be_open_is_left_alone_as_it_may_have_callers(cut: BaseException) -> None:
    backend = Backend(opening=cut)
    with pytest.raises(type(cut)):
        start(backend)
    assert backend.steps[-1] == (Gate.OPEN, "AW_1", 2)


def test_one_that_the_host_finds_unregistered_after_its_proof_is_ended() -> None:
    backend = Backend(opening=ServiceError("agent is not ready in time"))
    with pytest.raises(ServiceError, match="not ready in time"):
        start(backend)
    assert backend.steps[-1] is StopForce.KILL


def test_an_agent_that_knows_of_no_gate_takes_calls_at_once() -> None:
    backend = Backend(knows_gates=False)
    start(backend, fails=True)
    assert backend.steps == [("start", True), (Gate.CLOSED, ""), (Gate.NONE, "")], "it has settled"


def start_canary(backend: Backend, *, fails: BaseException | None = None) -> Instance:
    def prove(service: Declared, name: str, ended: Callable[[], bool]) -> None:
        assert ended(), "its process is another one by now"

    def watch(service: Declared, new: Instance, observe: Callable[[], Observed]) -> None:
        backend.steps.append("watch")
        if fails is not None:
            raise fails

    canary = Canary(share=0.1, watch=watch)
    return gated_start(cast(Any, backend), AGENT, Deadline(30, "the test"), prove, canary)


def test_a_canary_takes_its_share_and_after_its_time_all_calls() -> None:
    backend = Backend()
    start_canary(backend)
    assert backend.steps[2:] == [(Gate.OPEN, "AW_1", 2, 0.1), "watch", (Gate.OPEN, "", 2)]


def test_a_canary_that_does_not_stand_the_comparison_drains() -> None:
    backend = Backend()
    with pytest.raises(ServiceError, match="2 of its 5 calls failed"):
        start_canary(backend, fails=ServiceError("2 of its 5 calls failed"))
    assert backend.steps[-2:] == ["watch", StopForce.BEGIN]


def test_a_canary_whose_deployer_is_cut_off_goes_on() -> None:
    backend = Backend()
    with pytest.raises(HostError):
        start_canary(backend, fails=HostError("the connection was cut"))
    assert backend.steps[-1] == "watch"
