"""The one decision, rule by rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from voiceops.errors import UsageError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.settings import Probe
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance, Observed, Stray, judge
from voiceops.stack.reconcile import (
    Action,
    Verb,
    calls_at_risk,
    ends_a_server,
    handed_over,
    in_order,
    plan_start,
    plan_stop,
    without_server,
)

SERVER = Declared(name="livekit", kind="livekit", role=Role.SERVER, cwd=Path("/"), digest="a", ports=(7880,))
AGENT = Declared(name="agent", kind="agent", role=Role.AGENT, cwd=Path("/"), digest="a", needs=("livekit",))
WEB = Declared(name="web", kind="command", cwd=Path("/"), digest="a")
STACK = (SERVER, AGENT, WEB)


def run(
    service: Declared,
    *,
    state: ServiceState = ServiceState.READY,
    digest: str = "a",
    calls: int = 0,
    pid: int = 10,
    age_s: float = 100.0,
    signalled: bool = False,
) -> Instance:
    return Instance(
        service=service.name,
        role=service.role,
        launch=f"{service.name}-{pid}",
        pid=pid,
        digest=digest,
        state=state,
        calls=calls,
        rooms=tuple(f"room-{number}" for number in range(calls)),
        age_s=age_s,
        signalled=signalled,
    )


def seen(*instances: Instance) -> Observed:
    return Observed(instances=instances)


def healthy() -> dict[str, Observed]:
    return {service.name: seen(run(service)) for service in STACK}


def verbs(actions: tuple[Action, ...]) -> dict[str, Verb]:
    return {action.service: action.verb for action in actions}


def test_everything_is_started_from_nothing_in_dependency_order() -> None:
    actions = plan_start((AGENT, WEB, SERVER), {})
    assert [action.service for action in actions] == ["livekit", "agent", "web"]
    assert set(verbs(actions).values()) == {Verb.START}


def test_a_stack_that_runs_as_declared_is_kept() -> None:
    actions = plan_start(STACK, healthy())
    assert set(verbs(actions).values()) == {Verb.KEEP}
    assert not any(action.changes for action in actions)


def test_services_that_need_each_other_in_a_circle_are_refused() -> None:
    one = Declared(name="one", kind="command", cwd=Path("/"), needs=("two",))
    two = Declared(name="two", kind="command", cwd=Path("/"), needs=("one",))
    with pytest.raises(UsageError, match="one -> two -> one"):
        in_order([one, two])


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        plan_start(STACK, {}, only=["agnet"])
    assert "agent" in (caught.value.hint or "")


def test_what_a_named_service_needs_is_started_with_it() -> None:
    assert verbs(plan_start(STACK, {}, only=["agent"])) == {"livekit": Verb.START, "agent": Verb.START}


def test_an_agent_with_an_old_configuration_is_replaced_by_overlap() -> None:
    observed = healthy() | {"agent": seen(run(AGENT, digest="old", calls=2))}
    actions = plan_start(STACK, observed)
    assert verbs(actions)["agent"] is Verb.OVERLAP
    assert calls_at_risk(actions, observed) == ()


def test_a_server_with_an_old_configuration_restarts_and_names_the_calls_it_would_drop() -> None:
    observed = healthy() | {"livekit": seen(run(SERVER, digest="old")), "agent": seen(run(AGENT, calls=2))}
    actions = plan_start(STACK, observed)
    assert verbs(actions)["livekit"] is Verb.RESTART
    assert calls_at_risk(actions, observed) == ("room-0", "room-1")


def test_an_agent_waits_to_register_anew_when_its_server_starts() -> None:
    observed = healthy() | {"livekit": Observed()}
    actions = plan_start(STACK, observed)
    assert verbs(actions) == {"livekit": Verb.START, "agent": Verb.WAIT, "web": Verb.KEEP}
    assert next(action for action in actions if action.service == "agent").renew


def test_a_server_that_died_is_started_without_asking_about_calls_that_it_no_longer_has() -> None:
    left = run(SERVER, state=ServiceState.STALE, pid=0)
    observed = healthy() | {
        "livekit": Observed(leftovers=(left,), stale="pid 7 is gone"),
        "agent": seen(run(AGENT, state=ServiceState.STARTING, calls=1)),
    }
    actions = plan_start(STACK, observed)
    assert verbs(actions)["livekit"] is Verb.START
    assert calls_at_risk(actions, observed) == ()


@pytest.mark.parametrize("state", [ServiceState.DRAINING, ServiceState.READY])
def test_an_agent_that_was_told_to_stop_gets_a_successor_beside_it(state: ServiceState) -> None:
    observed = healthy() | {"agent": seen(run(AGENT, state=state, calls=1, signalled=True))}
    actions = plan_start(STACK, observed)
    assert verbs(actions)["agent"] is Verb.START
    assert calls_at_risk(actions, observed) == ()


@pytest.mark.parametrize("with_successor", [True, False])
def test_an_agent_that_was_told_to_stop_and_does_not_answer_is_named_and_puts_no_call_at_risk(
    with_successor: bool,
) -> None:
    mute = replace(run(AGENT, state=ServiceState.DRAINING, pid=1, signalled=True), calls=None)
    drains = run(AGENT, state=ServiceState.DRAINING, pid=2, calls=1, signalled=True)
    successor = (run(AGENT, pid=3),) if with_successor else ()
    observed = healthy() | {"agent": seen(mute, drains, *successor)}
    actions = plan_start(STACK, observed)
    action = next(one for one in actions if one.service == "agent")
    assert action.mute == (mute,)
    assert action.verb is (Verb.KEEP if with_successor else Verb.START)
    assert action.changes is not with_successor
    assert calls_at_risk(actions, observed) == ()


def test_of_duplicates_the_right_configuration_stays_and_the_others_drain() -> None:
    old = run(AGENT, digest="old", pid=1, calls=1, age_s=500)
    new = run(AGENT, pid=2)
    observed = healthy() | {"agent": seen(old, new)}
    action = next(a for a in plan_start(STACK, observed) if a.service == "agent")
    assert (action.verb, action.instance, action.extra) == (Verb.KEEP, new, (old,))
    assert action.changes
    assert calls_at_risk([action], observed) == ()


def test_one_that_a_killed_deploy_left_unproved_ends_and_the_one_that_serves_is_replaced() -> None:
    serving = run(AGENT, digest="old", pid=1, calls=1, age_s=500)
    unproved = replace(run(AGENT, pid=2, state=ServiceState.STARTING), proving=True)
    observed = healthy() | {"agent": seen(serving, unproved)}
    action = next(a for a in plan_start(STACK, observed) if a.service == "agent")
    assert (action.verb, action.instance, action.extra) == (Verb.OVERLAP, serving, (unproved,))
    assert calls_at_risk([action], observed) == ()


def canary(*, calls: int = 0) -> Instance:
    return replace(run(AGENT, pid=2, calls=calls), share=0.1, release="r2")


def test_a_canary_that_a_killed_deploy_left_drains_although_it_has_the_declared_configuration() -> None:
    serving = run(AGENT, digest="old", pid=1, calls=1, age_s=500)
    left = canary(calls=2)
    observed = healthy() | {"agent": seen(serving, left)}
    action = next(a for a in plan_start(STACK, observed) if a.service == "agent")
    assert (action.verb, action.instance, action.extra) == (Verb.OVERLAP, serving, (left,))
    assert calls_at_risk([action], observed) == ()


def test_a_canary_is_no_duplicate_of_the_one_that_serves_and_is_named_beside_it() -> None:
    verdict = judge(seen(run(AGENT, pid=1), canary()))
    assert (verdict.state, verdict.pids) == (ServiceState.READY, (1,))
    assert verdict.detail == "release r2 is a canary with 10% of new calls (pid 2)"


def test_a_canary_alone_is_replaced_by_one_that_takes_all_calls() -> None:
    (action,) = [a for a in plan_start(STACK, healthy() | {"agent": seen(canary())}) if a.service == "agent"]
    assert (action.verb, action.reason) == (Verb.OVERLAP, "it is a canary")


def test_an_unproved_one_alone_is_never_waited_for() -> None:
    unproved = replace(run(AGENT, state=ServiceState.STARTING), proving=True)
    (action,) = [a for a in plan_start(STACK, healthy() | {"agent": seen(unproved)}) if a.service == "agent"]
    assert (action.verb, action.instance) == (Verb.OVERLAP, unproved)


def test_a_stray_is_refused_unless_it_may_be_replaced() -> None:
    stray = Stray(
        service="livekit", pid=99, start="1", command="livekit-server", age_s=3, reason="port 7880 is taken"
    )
    observed = {"livekit": Observed(strays=(stray,))}
    assert verbs(plan_start(STACK, observed))["livekit"] is Verb.REFUSE
    action = plan_start(STACK, observed, replace_strays=True)[0]
    assert (action.verb, action.strays) == (Verb.START, (stray,))


def test_a_service_that_does_not_answer_is_restarted_and_an_agent_overlapped() -> None:
    silent = ServiceState.UNRESPONSIVE
    observed = healthy() | {"agent": seen(run(AGENT, state=silent)), "web": seen(run(WEB, state=silent))}
    assert verbs(plan_start(STACK, observed)) == {
        "livekit": Verb.KEEP,
        "agent": Verb.OVERLAP,
        "web": Verb.RESTART,
    }


def test_what_is_starting_is_waited_for() -> None:
    observed = healthy() | {"web": seen(run(WEB, state=ServiceState.STARTING, age_s=1))}
    assert verbs(plan_start(STACK, observed))["web"] is Verb.WAIT


def test_an_agent_that_has_lost_its_server_for_good_is_replaced_without_dropping_its_calls() -> None:
    lost = run(AGENT, state=ServiceState.STARTING, age_s=5000, calls=1)
    observed = healthy() | {"agent": seen(lost)}
    actions = plan_start(STACK, observed)
    assert verbs(actions)["agent"] is Verb.OVERLAP
    assert calls_at_risk(actions, observed) == ()


def test_a_notify_service_whose_starter_was_killed_is_restarted() -> None:
    service = Declared(name="web", kind="command", cwd=Path("/"), digest="a", probe=Probe(notify=True))
    observed = {"web": seen(run(service, state=ServiceState.STARTING, age_s=1))}
    assert verbs(plan_start([service], observed)) == {"web": Verb.RESTART}


def test_restart_overlaps_an_agent_with_calls_and_restarts_an_idle_one() -> None:
    busy = healthy() | {"agent": seen(run(AGENT, calls=1))}
    assert verbs(plan_start(STACK, busy, only=["agent"], renew=True)) == {
        "livekit": Verb.KEEP,
        "agent": Verb.OVERLAP,
    }
    assert verbs(plan_start(STACK, healthy(), only=["agent"], renew=True))["agent"] is Verb.RESTART


def test_a_restart_overlaps_an_agent_without_calls_where_asked_unless_its_server_restarts() -> None:
    alone = plan_start(STACK, healthy(), only=["agent"], renew=True, beside=True)
    assert verbs(alone)["agent"] is Verb.OVERLAP
    both = plan_start(STACK, healthy(), renew=True, beside=True)
    assert verbs(both)["agent"] is Verb.RESTART


def test_what_is_no_longer_declared_is_stopped_but_not_when_services_are_named() -> None:
    gone = run(Declared(name="old", kind="agent", role=Role.AGENT, cwd=Path("/")), calls=1)
    observed = healthy() | {"old": seen(gone)}
    actions = plan_start(STACK, observed)
    assert verbs(actions)["old"] is Verb.STOP
    assert calls_at_risk(actions, observed) == ()
    assert "old" not in verbs(plan_start(STACK, observed, only=["web"]))


def test_stop_goes_agents_before_servers_and_takes_draining_ones_too() -> None:
    draining = run(AGENT, pid=11, state=ServiceState.DRAINING, signalled=True)
    observed = healthy() | {"agent": seen(run(AGENT), draining)}
    actions = plan_stop(STACK, observed)
    assert [action.service for action in actions] == ["web", "agent", "livekit"]
    assert len(actions[1].ended) == 2


def test_stop_names_the_calls_of_an_agent_and_of_the_server_under_it() -> None:
    observed = healthy() | {"agent": seen(run(AGENT, calls=2))}
    assert calls_at_risk(plan_stop(STACK, observed), observed) == ("room-0", "room-1")
    assert calls_at_risk(plan_stop(STACK, observed, only=["livekit"]), observed) == ("room-0", "room-1")
    assert calls_at_risk(plan_stop(STACK, observed, only=["web"]), observed) == ()


def test_left_over_processes_are_ended_by_start_and_by_stop() -> None:
    left = run(AGENT, state=ServiceState.STALE)
    observed = {"agent": Observed(leftovers=(left,), stale="pid 10 is gone")}
    assert plan_start([AGENT], observed)[0].extra == (left,)
    assert plan_stop([AGENT], observed)[0].ended == (left,)


@pytest.mark.parametrize(
    ("observed", "state"),
    [
        (Observed(), ServiceState.MISSING),
        (Observed(stale="pid 7 is gone"), ServiceState.STALE),
        (seen(run(WEB)), ServiceState.READY),
        (seen(run(WEB), run(WEB, pid=11)), ServiceState.DUPLICATE),
        (seen(run(AGENT), run(AGENT, pid=11, signalled=True)), ServiceState.READY),
        (seen(run(AGENT, signalled=True)), ServiceState.DRAINING),
        (
            Observed(
                instances=(run(WEB),),
                strays=(Stray(service="web", pid=5, start="1", command="x", age_s=1, reason="port"),),
            ),
            ServiceState.STRAY,
        ),
    ],
)
def test_one_word_says_what_is_wrong_with_a_service(observed: Observed, state: ServiceState) -> None:
    assert judge(observed).state is state


TASK = Declared(name="task", kind="command", cwd=Path("/"), digest="a", oneshot=True)


def ended(state: ServiceState, *, digest: str = "a") -> dict[str, Observed]:
    last = Instance(
        service="task", launch="t", pid=0, digest=digest, state=state, detail="exit 3 after 0.1 s"
    )
    return {"task": Observed(ended=last)}


def test_a_completed_one_shot_is_kept_until_it_changes() -> None:
    (kept,) = plan_start((TASK,), ended(ServiceState.COMPLETED))
    assert (kept.verb, kept.changes) == (Verb.KEEP, False)
    assert judge(ended(ServiceState.COMPLETED)["task"]).ok
    (again,) = plan_start((TASK,), ended(ServiceState.COMPLETED, digest="old"))
    assert (again.verb, again.reason) == (Verb.START, "it has changed since it was completed")
    assert [one.launch for one in again.extra] == ["t"], "its last run is forgotten first"


def test_a_failed_one_shot_is_run_again_and_a_restart_runs_any() -> None:
    (failed,) = plan_start((TASK,), ended(ServiceState.FAILED))
    assert (failed.verb, failed.reason) == (Verb.START, "exit 3 after 0.1 s")
    assert not judge(ended(ServiceState.FAILED)["task"]).ok
    (renewed,) = plan_start((TASK,), ended(ServiceState.COMPLETED), renew=True)
    assert renewed.verb is Verb.START


def test_a_stop_and_an_end_of_its_declaration_forget_a_completed_one_shot() -> None:
    (stopped,) = plan_stop((TASK,), ended(ServiceState.COMPLETED))
    (gone,) = plan_start((), ended(ServiceState.COMPLETED))
    assert stopped.verb is gone.verb is Verb.STOP
    assert [one.launch for one in (*stopped.extra, *gone.extra)] == ["t", "t"]


def test_a_one_shot_that_runs_is_waited_for() -> None:
    (action,) = plan_start((TASK,), {"task": seen(run(TASK, state=ServiceState.STARTING, age_s=3))})
    assert action.verb is Verb.WAIT


def test_an_agent_registers_anew_only_with_its_server_and_not_with_what_else_it_needs() -> None:
    agent = replace(AGENT, needs=("livekit", "task"))
    observed = {"livekit": seen(run(SERVER)), "agent": seen(run(agent))} | ended(ServiceState.FAILED)
    actions = plan_start((SERVER, TASK, agent), observed)
    assert verbs(actions) == {"livekit": Verb.KEEP, "task": Verb.START, "agent": Verb.KEEP}


def test_a_server_that_waits_for_its_calls_is_restarted_and_counts_as_one_that_ends() -> None:
    draining = run(SERVER, state=ServiceState.DRAINING, signalled=True)
    actions = plan_start(STACK, healthy() | {"livekit": seen(draining)})
    assert verbs(actions) == {"livekit": Verb.RESTART, "agent": Verb.WAIT, "web": Verb.KEEP}
    assert ends_a_server(actions)
    assert actions[0].instance == draining


def test_while_a_server_hands_over_its_agent_is_replaced_by_overlap_though_it_has_no_call() -> None:
    changed = (replace(SERVER, digest="b"), replace(AGENT, digest="b"), WEB)
    actions = plan_start(changed, healthy())
    assert verbs(actions) == {"livekit": Verb.RESTART, "agent": Verb.RESTART, "web": Verb.KEEP}
    assert verbs(handed_over(actions)) == {
        "livekit": Verb.RESTART,
        "agent": Verb.OVERLAP,
        "web": Verb.KEEP,
    }
    assert not ends_a_server(without_server(actions))
