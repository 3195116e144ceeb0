"""What the monitor makes of needs: conditions, and one-shots that failed for good."""

from __future__ import annotations

from pathlib import Path

from voiceops.kinds.command import CommandService
from voiceops.kinds.model import Declared
from voiceops.model.states import ServiceState
from voiceops.monitor.needs import awaited_needs, failed_for_good


def test_a_service_is_not_waited_for_by_those_that_need_only_its_process() -> None:
    conditions = {"db": "started", "task": "completed"}
    service = Declared(
        name="api",
        kind="command",
        cwd=Path("/"),
        needs=("db", "task", "cache"),
        conditions=conditions,  # type: ignore[arg-type]
    )
    assert awaited_needs(service) == ("task", "cache")


def test_a_failed_one_shot_holds_back_what_needs_it_unless_it_is_run_again() -> None:
    settings = {
        "task": CommandService(command=["x"], oneshot=True),
        "retried": CommandService(command=["x"], oneshot=True, restart="on-failure"),
        "service": CommandService(command=["x"]),
    }
    assert failed_for_good(settings, dict.fromkeys(settings, ServiceState.FAILED)) == {"task"}
    assert failed_for_good(settings, dict.fromkeys(settings, ServiceState.COMPLETED)) == set()
