"""Which hosts get their turn when others fail."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from voiceops.deploy.fleet import Fleet, HostRun
from voiceops.errors import ServiceError
from voiceops.fleet.run import skip_after_failures
from voiceops.kinds.command import CommandService
from voiceops.model.settings import Host, Settings


def run_of(name: str) -> HostRun:
    settings = Settings(project="p", services={"web": CommandService(command=["true"])})
    host = Host(name=name, local=False, address=name, settings=settings)
    transport: Any = SimpleNamespace(name=name, close=lambda: None)
    planned: Any = SimpleNamespace(as_declared=False)
    return HostRun(host, transport, lambda: None, planned=planned)


def rolled(*failing: str, max_fail: int) -> dict[str, str]:
    fleet = Fleet(runs=[run_of(f"h{number}") for number in range(5)], parallel=4)

    def work(run: HostRun) -> None:
        if run.name in failing:
            raise ServiceError("it did not come up")

    fleet.run(work, fleet.batches(1), skip_after_failures(max_fail))
    return {run.name: "failed" if run.error else "skipped" if run.skipped else "done" for run in fleet.runs}


def test_hosts_follow_until_more_than_max_fail_have_failed() -> None:
    assert rolled("h1", max_fail=0) == {
        "h0": "done",
        "h1": "failed",
        "h2": "skipped",
        "h3": "skipped",
        "h4": "skipped",
    }
    assert rolled("h1", "h3", max_fail=1)["h4"] == "skipped"
    assert rolled("h1", "h3", max_fail=2)["h4"] == "done"


def test_no_host_follows_a_first_one_that_failed() -> None:
    assert set(rolled("h0", max_fail=5).values()) == {"failed", "skipped"}
