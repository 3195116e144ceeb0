"""Findings about workers: full, missing, frozen, draining."""

from __future__ import annotations

from tests.unit.doctor.scenes import (
    agent,
    assigned,
    caller,
    room,
    scene,
    server,
    server_line,
    worker,
    worker_line,
)
from tests.unit.doctor.test_rules import CASES
from voiceops.doctor.diagnose import diagnose
from voiceops.doctor.facts import HostFact
from voiceops.model.states import ServiceState


def test_a_call_that_a_busy_worker_was_not_offered_has_one_finding_which_names_the_limit() -> None:
    busy = worker(load=0.9, load_limit=0.8)
    (finding,) = diagnose(scene(room(caller(12), age_s=12), workers=(busy,)))
    assert finding.rule == "worker-over-load"
    assert "load_limit is 0.8" in finding.evidence
    assert finding.fix == (
        "inv rooms.dispatch r; then add a host to the agents' group, or raise load_limit in inventory.yaml (or off)"
    )


def test_a_busy_worker_without_a_load_limit_is_not_full() -> None:
    assert diagnose(scene(workers=(worker(load=1.0, load_limit=None),))) == ()


def test_a_missing_worker_is_the_only_finding_and_its_fix_ends_with_the_lost_dispatch() -> None:
    (finding,) = diagnose(CASES["no-worker"])
    assert [fix.action for fix in finding.fixes] == ["start", "dispatch"]


def test_a_worker_that_is_silent_on_a_full_machine_is_not_killed_before_it_lost_a_call() -> None:
    silent = worker(answers=False, registered=None, state=ServiceState.UNRESPONSIVE)
    full = HostFact(cpu_share=1.0)
    (finding,) = diagnose(scene(workers=(silent,), host=full))
    assert (finding.rule, finding.severity) == ("worker-slow", "warning")
    lost = server_line("failed to assign job to worker", 5, error="context deadline exceeded", room="other")
    (finding,) = diagnose(scene(workers=(silent,), host=full, events=(lost,)))
    assert finding.rule == "worker-frozen"
    (finding,) = diagnose(scene(workers=(silent,), host=HostFact(cpu_share=0.5)))
    assert finding.rule == "worker-frozen"


def test_a_frozen_worker_is_replaced_by_overlap_and_only_callers_who_wait_get_new_agents() -> None:
    frozen = worker(stopped=True, answers=False, registered=None, state=ServiceState.UNRESPONSIVE)
    served = room(caller(), agent(), name="served")
    (finding,) = diagnose(
        scene(served, room(caller(), name="waits"), events=(assigned(),), workers=(frozen,))
    )
    assert [(fix.action, fix.room) for fix in finding.fixes] == [("start", ""), ("dispatch", "waits")]


def test_a_worker_that_was_told_to_stop_and_is_mute_is_named_with_the_calls_that_it_may_have() -> None:
    old = worker(state=ServiceState.DRAINING, draining=True, answers=False, registered=None, pid=7)
    new = worker(rooms=("other",))
    others = (room(caller(), agent(), name="other"), room(caller(), agent(), name="held"))
    (finding,) = diagnose(scene(*others, workers=(new, old)))
    assert (finding.rule, finding.severity) == ("worker-drain-stuck", "warning")
    assert "pid 7" in finding.sentence
    assert "1 call may be its own: it is ended only after them" in finding.evidence
    assert [fix.action for fix in finding.fixes] == ["start"]
    lost = server_line("failed to assign job to worker", 5, error="context deadline exceeded", room="lost")
    blocked = worker_line("event loop blocked", 60, level="WARNING", where="/a/agent.py:7 in look_up")
    (finding,) = diagnose(scene(workers=(new, old), events=(blocked, lost)))
    assert finding.severity == "error"
    assert "worker log: event loop blocked at /a/agent.py:7 in look_up" in finding.evidence
    assert not any("its own" in line for line in finding.evidence)


def test_only_a_server_that_the_kernel_has_stopped_is_killed_and_one_that_is_mute_is_asked_about() -> None:
    (finding,) = diagnose(scene(server=server(reachable=False)))
    assert [(fix.action, fix.now) for fix in finding.fixes] == [("start", False)]
    (finding,) = diagnose(scene(server=server(reachable=False, stopped=True)))
    assert [(fix.action, fix.now) for fix in finding.fixes] == [("restart", True), ("start", False)]


def test_an_old_worker_that_drains_is_neither_full_nor_misnamed() -> None:
    old = worker(
        agent_name="front", registered_name="", draining=True, state=ServiceState.DRAINING, pid=43, calls=1
    )
    line = server_line("failed", 59, error="no servers available (received 1 responses)", agentName="")
    found = diagnose(scene(room(caller()), workers=(worker(agent_name="front"), old), events=(line,)))
    assert [finding.rule for finding in found] == ["no-dispatch"]
