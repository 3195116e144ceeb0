"""Carry out what ``reconcile`` decided: start, stop, restart, check - for one host, on any backend.

Safe to call at any time, twice, and after a call that was killed half way: each looks at
what there is, under the lock, and does what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace

from voiceops.deadline import Deadline
from voiceops.kinds.model import Declared
from voiceops.model import timeouts
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.model import Observed, ServiceVerdict, judge, misnamed
from voiceops.stack.occupancy import CallRisk, running_servers, wait_for_people, weigh
from voiceops.stack.reconcile import (
    Action,
    Verb,
    choose,
    ends_a_server,
    handed_over,
    plan_start,
    plan_stop,
    refuse_strays,
    without_server,
)
from voiceops.stack.results import Results
from voiceops.stack.stack import LivekitAccess, Stack
from voiceops.stack.steps import Starter, Stopper
from voiceops.util.words import counted

_ENTERING_S = 0.3
"""From a caller's connection to a room with somebody in it."""
_POLL_S = 1.0
"""Between two questions who is in a call."""


def check(stack: Stack) -> dict[str, ServiceVerdict]:
    """One word for each service, those included that still run and are no longer declared. Read-only."""
    return verdicts(stack, stack.backend.observe(stack.outline))


def verdicts(stack: Stack, observed: Mapping[str, Observed]) -> dict[str, ServiceVerdict]:
    """The same, from what was observed already."""
    words = {service.name: judge(observed.get(service.name, Observed())) for service in stack.outline}
    for service in stack.outline:
        if service.role is Role.SERVER and words[service.name].ok:
            refused = stack.refusal()
            if refused:
                # It runs and answers, and nothing of this project gets in.
                words[service.name] = replace(words[service.name], state=ServiceState.FAILED, detail=refused)
        if words[service.name].ok and (wrong := misnamed(service.agent_name, words[service.name].instance)):
            words[service.name] = replace(words[service.name], state=ServiceState.FAILED, detail=wrong)
    for name, seen in observed.items():
        if name not in words and seen.current:
            pids = tuple(one.pid for one in seen.current)
            words[name] = ServiceVerdict(
                state=ServiceState.STRAY, detail="runs, and is no longer declared", pids=pids
            )
    return words


def start(
    stack: Stack,
    *,
    only: Sequence[str] = (),
    replace_strays: bool = False,
    drop_calls: bool = False,
    drain_s: float | None = None,
    hand_over: bool = False,
    renew: bool = False,
    observed: Mapping[str, Observed] | None = None,
    timeout_s: float = timeouts.START_S,
) -> Results:
    """Make the stack run as declared and wait until each service is ready.

    ``renew`` replaces what is named even when it runs well (``restart``). ``drain_s``: how long a server that
    has to end waits until nobody is in a call, beside ``timeout_s``; with ``hand_over`` it takes no new rooms
    meanwhile, which other servers do. ``observed``: what was observed just before by whoever holds the lock. Raises
    ``LockedError``, ``StrayError``, ``CallsInProgressError`` before anything has changed,
    ``ServiceError`` when a service does not get ready; the others are started nevertheless.
    """
    choose(stack.outline, only)
    stack.fetch()
    limit = Deadline(timeout_s + (drain_s or 0.0), "start")
    with stack.lock(Deadline(timeout_s, "start")):
        services = stack.services()

        def planned(stack: Stack, observed: Mapping[str, Observed] | None = None) -> StartPlan:
            return plan(
                stack,
                services,
                only=only,
                replace_strays=replace_strays,
                renew=renew,
                hand_over=hand_over,
                observed=observed,
            )

        made = planned(stack, observed)
        refuse_strays(made.actions, stack.host)
        with ExitStack() as held:
            if drop_calls:
                hang_up(stack, made.risk, made.observed)
            else:
                hold = None if hand_over else stack.hold_callers
                made, stack = without_calls(stack, planned, made, drain_s, hold, held)
            stack.want([action.service for action in made.actions if action.verb is not Verb.STOP], True)
            hand_over_s = drain_s if hand_over and not drop_calls else None
            starter = Starter(
                stack,
                services,
                made.observed,
                limit,
                made.risk,
                drop_calls=drop_calls,
                hand_over_s=hand_over_s,
                let_in=held.close,
            )
            return starter.run(made.actions)


def without_calls(
    stack: Stack,
    planned: Callable[[Stack], StartPlan],
    made: StartPlan,
    drain_s: float | None,
    hold: Callable[[], AbstractContextManager[LivekitAccess | None]] | None,
    held: ExitStack,
) -> tuple[StartPlan, Stack]:
    """Return the plan once it cuts off no call, and the stack to go on with; raises ``CallsInProgressError`` where it does and may not wait, or in vain.

    Where it ends a server, callers who connect from the last look on wait until ``held`` is closed, if ``hold`` can do
    that: otherwise somebody could come between that look and the server's end.
    """
    limit = Deadline(drain_s or 0.0, "the calls")
    while True:
        if made.risk.exists and drain_s is not None:
            made = wait_until_empty(stack, lambda: planned(stack), limit.remaining_s)
        made.risk.refuse("this would cut them off")
        if hold is None or not ends_a_server(made.actions):
            return made, stack
        with ExitStack() as holding:
            access = holding.enter_context(hold())
            if access is None:
                return made, stack
            inside = replace(
                stack,
                occupancy=access.occupancy,
                before_agents=access.before_agents,
                after_server=access.after_server,
            )
            time.sleep(_ENTERING_S)
            made = planned(inside)
            if not made.risk.exists:
                held.push(holding.pop_all())
                return made, inside


@dataclass(frozen=True, slots=True)
class StartPlan:
    """What a start would do, by one observation, and the calls that it would cut off."""

    observed: Mapping[str, Observed]
    actions: tuple[Action, ...]
    risk: CallRisk


def plan(
    stack: Stack,
    services: Sequence[Declared],
    *,
    only: Sequence[str] = (),
    replace_strays: bool = False,
    renew: bool = False,
    hand_over: bool = False,
    observed: Mapping[str, Observed] | None = None,
) -> StartPlan:
    """Observe, unless it was done just before, and return what a start would do. Changes nothing.

    ``hand_over``: a server that ends does so after its calls, so that these are not at risk.
    """
    observed = stack.backend.observe(services) if observed is None else observed
    actions = plan_start(
        services,
        observed,
        only=only,
        replace_strays=replace_strays,
        renew=renew,
        beside=stack.prove is not None,
    )
    if hand_over and ends_a_server(actions):
        actions = handed_over(actions)
        return StartPlan(observed, actions, calls_at_stake(stack, without_server(actions), observed))
    return StartPlan(observed, actions, calls_at_stake(stack, actions, observed))


def wait_until_empty(stack: Stack, planned: Callable[[], StartPlan], drain_s: float) -> StartPlan:
    """Plan again until no call would be cut off, for up to ``drain_s``; returns the plan that counts now.

    Only the end of a server is worth waiting for: its callers keep coming, so the first moment without any counts.
    Raises ``CallsInProgressError`` or ``CallsUnknownError`` when that moment does not come.
    """
    limit = Deadline(drain_s, "the calls")
    while True:
        made = planned()
        if not made.risk.exists or not ends_a_server(made.actions):
            return made
        if limit.expired:
            made.risk.refuse(f"there was no moment without one within {drain_s:g} s; nothing was ended")
        count = str(len(made.risk.rooms)) if made.risk.unknown is None else "an unknown number"
        stack.progress("calls", "draining", f"{count} in progress, up to {drain_s:g} s")
        time.sleep(min(_POLL_S, limit.remaining_s))


def calls_at_stake(stack: Stack, actions: Sequence[Action], observed: Mapping[str, Observed]) -> CallRisk:
    """The calls that these actions would cut off, and whether there may be more. Changes nothing."""
    return weigh(actions, observed, stack.occupancy)


def hang_up(stack: Stack, risk: CallRisk, observed: Mapping[str, Observed]) -> None:
    """Tell the callers of these calls that they end, without which they would hear silence, and say which they are."""
    if risk.rooms:
        stack.progress("calls", "dropping", f"{counted(len(risk.rooms), 'call')}: {', '.join(risk.rooms)}")
    if stack.occupancy and risk.on_server:
        stack.occupancy.hang_up(risk.on_server, running_servers(observed))


def stop(
    stack: Stack,
    *,
    only: Sequence[str] = (),
    drain_s: float | None = None,
    now: bool = False,
    drop_calls: bool = False,
    final: bool = False,
    timeout_s: float = timeouts.START_S,
) -> Results:
    """End what runs, dependents first, and all that it left behind; ``final``: no monitor brings it back.

    With calls in progress it raises ``CallsInProgressError`` unless they may be dropped or
    ``drain_s`` is given; when they outlast that, the agent keeps draining and the rest runs on.
    """
    choose(stack.outline, only)
    limit = Deadline(timeout_s + (drain_s or 0.0), "stop")
    with stack.lock(Deadline(timeout_s, "stop")):
        observed = stack.backend.observe(stack.outline)
        actions = plan_stop(stack.outline, observed, only=only)
        risk = calls_at_stake(stack, actions, observed)
        if drain_s is not None and not drop_calls and risk.exists and ends_a_server(actions):
            _drain_server(stack, actions, observed, risk, drain_s)
        elif drop_calls and drain_s is None:
            hang_up(stack, risk, observed)
        elif drain_s is None:
            risk.refuse("stop would drop them")
        if final:
            # Before anything ends: a stop that is cut off must not be undone by a monitor.
            stack.want([action.service for action in actions], False)
        return Stopper(stack, limit, risk, drain_s=drain_s, now=now, drop_calls=drop_calls).run(actions)


def refuse_to_drop(stack: Stack, *, only: Sequence[str] = (), renew: bool = False) -> None:
    """``CallsInProgressError`` if a ``stop`` (``renew``: a restart) would drop calls. Changes nothing."""
    choose(stack.outline, only)
    services = stack.services() if renew else stack.outline
    observed = stack.backend.observe(services)
    if renew:
        actions = plan_start(services, observed, only=only, renew=True)
    else:
        actions = plan_stop(services, observed, only=only)
    risk = calls_at_stake(stack, actions, observed)
    risk.refuse("this would cut them off" if renew else "stop would drop them")


def require_known_calls(stack: Stack) -> None:
    """``CallsUnknownError`` when the end of everything might drop calls that nobody can name."""
    observed = stack.backend.observe(stack.outline)
    risk = calls_at_stake(stack, plan_stop(stack.outline, observed), observed)
    CallRisk(unknown=risk.unknown).refuse("restarting the stack would drop them")


def _drain_server(
    stack: Stack, actions: Sequence[Action], observed: Mapping[str, Observed], risk: CallRisk, drain_s: float
) -> None:
    """A server drains by its agents, or waits for its callers where the agents are elsewhere.

    Its calls belong to agents: it can't drain while one of them goes on.
    """
    ended = {one.launch for action in actions for one in action.ended}
    left = [
        one
        for seen in observed.values()
        for one in seen.instances
        if one.calls != 0 and one.launch not in ended
    ]
    if left:
        risk.refuse(f"{left[0].service} is not being stopped and would lose them")
    elif stack.occupancy and not any(one.is_agent for one in stack.outline):
        wait_for_people(stack.occupancy, running_servers(observed), drain_s, stack.progress)
    elif risk.unknown:
        CallRisk(unknown=risk.unknown).refuse("callers without an agent would be dropped after the drain")
