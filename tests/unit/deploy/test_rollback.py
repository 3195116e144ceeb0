"""Which hosts go back when a deploy of many has failed, and what a release that served before has to show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from voiceops.deploy.fleet import Fleet, HostRun
from voiceops.deploy.records import deploy_records
from voiceops.deploy.rollback import prove_again, undo_after_failures
from voiceops.errors import ServiceError
from voiceops.fleet.run import skip_after_failures
from voiceops.kinds.agent import AgentService
from voiceops.kinds.model import Declared
from voiceops.model.calls import CallFailure, CallResult, FailureKind
from voiceops.model.roles import Role
from voiceops.model.settings import Host, Settings
from voiceops.model.states import ServiceState
from voiceops.ports import ProgramResult
from voiceops.stack.model import Instance, Observed

AGENT = Declared(name="agent", kind="agent", role=Role.AGENT, cwd=Path("/"), release="r1", digest="r1")


def run_of(name: str) -> HostRun:
    """A host where ``r1`` serves and ``r2`` is declared."""
    settings = Settings(project="p", services={"agent": AgentService(entry="agent.py")})
    host = Host(name=name, local=False, address=name, settings=settings)
    transport: Any = SimpleNamespace(
        name=name,
        close=lambda: None,
        run=lambda *args, **options: ProgramResult(0, b"", b""),
    )
    served = Instance(
        service="agent", launch="agent@r1", pid=1, digest="r1", release="r1", state=ServiceState.READY
    )
    planned: Any = SimpleNamespace(as_declared=False, observed={"agent": Observed(instances=(served,))})
    return HostRun(host, transport, lambda: None, planned=planned)


def deployed(*failing: str, max_fail: int, changes: bool = True) -> tuple[Fleet, list[str]]:
    """What came of a deploy to five hosts with ``on_fail: rollback``, and the hosts that went back, in order."""
    fleet = Fleet(runs=[run_of(f"h{number}") for number in range(5)], parallel=1)

    def work(run: HostRun) -> None:
        if run.name in failing:
            raise ServiceError("it did not come up")
        services = {"agent": SimpleNamespace(changed=changes)}
        run.deployed = cast(Any, SimpleNamespace(releases={"agent": "r2"}, services=services, changed=1))

    went: list[str] = []

    def undo(run: HostRun, before: Mapping[str, str], cause: str) -> None:
        assert before == {"agent": "r1"}
        assert cause == f"the deploy failed on {failing[-1]}" or max_fail
        went.append(run.name)

    batches = fleet.batches(1)
    fleet.run(work, batches, skip_after_failures(max_fail))
    undo_after_failures(fleet, batches, max_fail, undo)
    return fleet, went


def test_hosts_that_are_done_go_back_once_more_have_failed_than_may() -> None:
    fleet, went = deployed("h2", max_fail=0)
    assert went == ["h0", "h1"]
    back = fleet.runs[0].error
    assert back is not None
    assert back.message == "h0: agent went back to release r1: the deploy failed on h2"
    assert [run.skipped != "" for run in fleet.runs] == [False, False, False, True, True]
    kept = [
        (one.host, one.action, one.ok) for one in deploy_records(fleet, "deploy", by="me", at=1.0, took_s=9.0)
    ]
    assert kept[:2] == [("h0", "deploy", False), ("h0", "rollback", True)]
    assert fleet.exit_code() == 1


@pytest.mark.parametrize(
    ("failing", "max_fail", "changes"),
    [
        pytest.param(("h1",), 1, True, id="as many as may"),
        pytest.param((), 0, True, id="none"),
        pytest.param(("h2",), 0, False, id="no agent was replaced"),
    ],
)
def test_nobody_goes_back_otherwise(failing: tuple[str, ...], max_fail: int, changes: bool) -> None:
    assert deployed(*failing, max_fail=max_fail, changes=changes)[1] == []


def answer(kind: FailureKind | None) -> Any:
    failure = None if kind is None else CallFailure(kind=kind, detail=f"{kind.value} it was")
    calls = SimpleNamespace(
        place=lambda run, service, name, ended: CallResult(
            id=1, ok=failure is None, room="r", identity="c", failure=failure
        )
    )
    said: list[str] = []
    return prove_again(cast(Any, calls), run_of("h0"), said.append), said


def test_a_release_that_answers_has_proved_itself_and_one_that_fails_has_not() -> None:
    answer(None)[0](AGENT, "proof-1", lambda: False)
    with pytest.raises(ServiceError, match="release r1 of agent failed") as failed:
        answer(FailureKind.NO_AGENT)[0](AGENT, "proof-1", lambda: False)
    assert failed.value.data["service"] == "agent"


def test_a_call_that_reaches_no_agent_keeps_nobody_from_going_back() -> None:
    prove, said = answer(FailureKind.NO_CONNECT)
    prove(AGENT, "proof-1", lambda: False)
    assert "callers reach it nevertheless" in said[0]
