"""Carry out what ``reconcile`` decided: start, stop, restart, check - for one host, on any backend.

Safe to call at any time, twice, and after a call that was killed half way: each looks at
what there is, under the lock, and does what is missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from voiceops.deadline import Deadline
from voiceops.errors import CallsInProgressError, ServiceError, VoiceopsError
from voiceops.model.states import ServiceState
from voiceops.stack.backend import Backend, Force
from voiceops.stack.model import Declared, Instance, Observed, Verdict, judge
from voiceops.stack.occupancy import Occupancy, calls_of, forsaken, wait_for_people
from voiceops.stack.reconcile import (
    Action,
    Verb,
    calls_at_risk,
    calls_of_strays,
    choose,
    ends_a_server,
    plan_start,
    plan_stop,
    refuse_strays,
)
from voiceops.stack.results import Progress, Result, Results, calls_error, side_by_side, silent

DEFAULT_TIMEOUT_S = 120.0
_DRAIN_BEGINS_S = 4.0
"""How long an overlap watches the old agent begin to drain; it then goes on alone."""

_DOING = {
    Verb.KEEP: "tidying up",
    Verb.WAIT: "waiting",
    Verb.START: "starting",
    Verb.RESTART: "restarting",
    Verb.OVERLAP: "overlapping",
    Verb.STOP: "stopping",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The services of one host and what acts on them."""

    services: Callable[[], tuple[Declared, ...]]
    """Complete declarations; may make keys and fetch secrets, so it is called under the lock."""
    outline: tuple[Declared, ...]
    backend: Backend
    lock: Callable[[Deadline], AbstractContextManager[None]]
    fetch: Callable[[], None] = lambda: None
    """Gets the programs that are missing; may take minutes, so no lock is held and no time is counted."""
    before_agents: Callable[[], None] | None = None
    """Cleans rooms before an agent takes calls."""
    occupancy: Occupancy | None = None
    """Asked only when calls may be at risk."""
    progress: Progress = silent
    count_rooms: Callable[[], int | None] = lambda: None
    """How many rooms its LiveKit has; None when it does not say."""
    host: str = ""
    """The server's name, for commands that people type; empty: this machine."""
    close: Callable[[], None] = lambda: None
    """Lets go of the way to the host; safe to call again."""


def check(stack: Stack) -> dict[str, Verdict]:
    """One word for each service, those included that still run and are no longer declared. Read-only."""
    return verdicts(stack, stack.backend.observe(stack.outline))


def verdicts(stack: Stack, observed: Mapping[str, Observed]) -> dict[str, Verdict]:
    """The same, from what was observed already."""
    words = {service.name: judge(observed.get(service.name, Observed())) for service in stack.outline}
    for name, seen in observed.items():
        if name not in words and seen.current:
            pids = tuple(one.pid for one in seen.current)
            words[name] = Verdict(
                state=ServiceState.STRAY, detail="runs, and is no longer declared", pids=pids
            )
    return words


def start(
    stack: Stack,
    *,
    only: Sequence[str] = (),
    replace_strays: bool = False,
    drop_calls: bool = False,
    renew: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Results:
    """Make the stack run as declared and wait until each service is ready.

    ``renew`` replaces what is named even when it runs well (``restart``). Raises
    ``LockedError``, ``StrayError``, ``CallsInProgressError`` before anything has changed,
    ``ServiceError`` when a service does not get ready; the others are started nevertheless.
    """
    choose(stack.outline, only)
    stack.fetch()
    limit = Deadline(timeout_s, "start")
    with stack.lock(limit):
        services = stack.services()
        observed = stack.backend.observe(services)
        actions = plan_start(services, observed, only=only, replace_strays=replace_strays, renew=renew)
        refuse_strays(actions, stack.host)
        risk = _weigh(stack, actions, observed, drop_calls=drop_calls)
        stray_calls = sum(stray.calls for action in actions for stray in action.strays)
        rooms = (*risk.rooms, *calls_of_strays(actions))
        if rooms and not drop_calls:
            raise calls_error(rooms, "this would cut them off", stray_calls)
        return _Starter(stack, services, observed, limit, risk, drop_calls=drop_calls).run(actions)


@dataclass(frozen=True, slots=True)
class _Risk:
    """The calls that a list of actions would cut off."""

    rooms: tuple[str, ...] = ()
    forsaken: frozenset[str] = frozenset()
    """Launches with jobs and without people: they may be killed instead of waited for."""


def at_risk(stack: Stack, actions: Sequence[Action], observed: Mapping[str, Observed]) -> tuple[str, ...]:
    """The rooms whose calls these actions would cut off, as far as the server says who is in one."""
    return _weigh(stack, actions, observed, drop_calls=False).rooms


def _weigh(
    stack: Stack, actions: Sequence[Action], observed: Mapping[str, Observed], *, drop_calls: bool
) -> _Risk:
    rooms = calls_at_risk(actions, observed)
    ended = [one for action in actions for one in action.ended]
    whole_server = ends_a_server(actions)
    if stack.occupancy is None or not (rooms or whole_server):
        return _Risk(rooms)
    try:
        occupied = stack.occupancy.occupied()
    except CallsInProgressError:
        if not drop_calls:
            raise
        occupied = None
    calls = calls_of(rooms, occupied, whole_server=whole_server)
    if drop_calls and occupied:
        stack.occupancy.hang_up([room for room in calls if room in occupied])
    return _Risk(calls, forsaken(ended, occupied))


class _Starter:
    """One run of ``start``: ends what must end, then starts side by side what does not need another."""

    def __init__(
        self,
        stack: Stack,
        services: Sequence[Declared],
        observed: Mapping[str, Observed],
        limit: Deadline,
        risk: _Risk,
        *,
        drop_calls: bool,
    ) -> None:
        self._stack = stack
        self._forsaken = risk.forsaken
        self._backend = stack.backend
        self._services = {service.name: service for service in services}
        self._observed = observed
        self._limit = limit
        self._drop_calls = drop_calls
        self._done: dict[str, threading.Event] = {}
        self._results: Results = {}

    def run(self, actions: Sequence[Action]) -> Results:
        for action in actions:
            if action.changes or action.verb is Verb.WAIT:
                self._stack.progress(action.service, _DOING[action.verb], action.reason)
        self._make_room(actions)
        steps = [action for action in actions if action.verb is not Verb.STOP]
        self._done = {action.service: threading.Event() for action in steps}
        waiting = [action for action in steps if action.verb is not Verb.KEEP]
        for action in steps:
            if action.verb is Verb.KEEP:
                self._keep(action)
        if self._stack.before_agents and self._rooms_may_be_left(waiting):
            self._stack.before_agents()
        side_by_side([partial(self._carry_out, action) for action in waiting])
        failed = [result.error for result in self._results.values() if result.error]
        if failed:
            raise failed[0]
        return {action.service: self._results[action.service] for action in actions}

    def _rooms_may_be_left(self, actions: Sequence[Action]) -> bool:
        """An agent starts anew on a server that has been running; a fresh server has no rooms."""
        anew = {
            self._services[action.service].kind
            for action in actions
            if action.verb in (Verb.START, Verb.RESTART)
        }
        return "agent" in anew and "livekit" not in anew

    def _make_room(self, actions: Sequence[Action]) -> None:
        """End strays, duplicates and what is restarted, dependents first."""
        for action in reversed(actions):
            for stray in action.strays:
                self._backend.end_stray(stray, self._limit)
            for instance in action.extra:
                if action.gently and instance.kind == "agent" and not instance.signalled:
                    self._backend.end(instance, self._shortly(), Force.BEGIN)
                else:
                    self._end(instance)
            if action.verb is Verb.RESTART and action.instance:
                self._end(action.instance)
            if action.verb is Verb.STOP:
                self._results[action.service] = Result(
                    ServiceState.STOPPED, changed=True, detail=action.reason, action="stop"
                )

    def _shortly(self) -> Deadline:
        return Deadline(min(_DRAIN_BEGINS_S, self._limit.remaining_s), "beginning to drain")

    def _end(self, instance: Instance) -> None:
        force = Force.KILL if instance.launch in self._forsaken else Force.STOP
        if self._backend.end(instance, self._limit, force):
            return
        if not self._drop_calls:
            raise calls_error(instance.rooms or ("(unknown)",), f"{instance.service} drains")
        self._backend.end(instance, self._limit, Force.KILL)

    def _keep(self, action: Action) -> None:
        assert action.instance is not None
        changed = bool(action.extra or action.strays)
        self._results[action.service] = Result(
            action.instance.state,
            changed=changed,
            pid=action.instance.pid,
            detail=action.reason,
            draining=[one.pid for one in self._observed[action.service].draining],
        )
        self._done[action.service].set()

    def _carry_out(self, action: Action) -> None:
        service = self._services[action.service]
        try:
            for need in service.needs:
                if need in self._done:
                    self._done[need].wait(self._limit.remaining_s)
                    needed = self._results.get(need)
                    if needed is None or needed.error:
                        raise ServiceError(f"{service.name} was not started: it needs {need}, which failed")
            self._results[service.name] = self._bring_up(service, action)
        except VoiceopsError as error:
            self._results[service.name] = Result(
                ServiceState.FAILED,
                changed=action.changes,
                detail=error.message,
                action=action.verb.value,
                error=error,
            )
        finally:
            result = self._results.get(service.name)
            if result:
                took = f"in {result.ready_s:.1f} s" if result.ready_s is not None else result.detail
                self._stack.progress(service.name, str(result.state), took)
            self._done[service.name].set()

    def _bring_up(self, service: Declared, action: Action) -> Result:
        began = time.monotonic()
        old = action.instance
        if action.verb is Verb.WAIT:
            assert old is not None
            new = self._backend.wait_ready(
                service, old, self._limit, not_worker_id=old.worker_id if action.renew else ""
            )
        else:
            new = self._start(service, replaced=old if action.verb is Verb.OVERLAP else None)
        ready_s = time.monotonic() - began
        result = Result(
            ServiceState.READY,
            changed=action.changes,
            pid=new.pid,
            ready_s=ready_s,
            detail=action.reason,
            action=action.verb.value,
            draining=[one.pid for one in self._observed.get(service.name, Observed()).draining],
        )
        replaced = old if action.verb is Verb.OVERLAP else None
        # The server knows the new one; only now may the old one stop to take calls.
        if replaced and not self._backend.end(replaced, self._shortly(), Force.BEGIN):
            result.draining.append(replaced.pid)
        return result

    def _start(self, service: Declared, *, replaced: Instance | None) -> Instance:
        started = self._backend.start(service)
        try:
            return self._backend.wait_ready(service, started, self._limit)
        except VoiceopsError as error:
            if replaced:
                self._backend.end(started, Deadline(service.stop_timeout_s, "ending the new one"), Force.KILL)
                error.message += f"; the old one (pid {replaced.pid}) keeps serving"
            raise


def stop(
    stack: Stack,
    *,
    only: Sequence[str] = (),
    drain_s: float | None = None,
    now: bool = False,
    drop_calls: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Results:
    """End what runs, dependents first, and all that it left behind.

    With calls in progress it raises ``CallsInProgressError`` unless they may be dropped or
    ``drain_s`` is given; when they outlast that, the agent keeps draining and the rest runs on.
    """
    choose(stack.outline, only)
    limit = Deadline(timeout_s + (drain_s or 0.0), "stop")
    with stack.lock(Deadline(timeout_s, "stop")):
        observed = stack.backend.observe(stack.outline)
        actions = plan_stop(stack.outline, observed, only=only)
        risk = _weigh(stack, actions, observed, drop_calls=drop_calls and drain_s is None)
        rooms = risk.rooms
        if rooms and drain_s is None and not drop_calls:
            raise calls_error(rooms, "stop would drop them")
        if rooms and drain_s is not None and ends_a_server(actions):
            _require_agents_too(actions, observed, rooms, drop_calls=drop_calls)
            if stack.occupancy and not drop_calls and not any(one.is_agent for one in stack.outline):
                wait_for_people(stack.occupancy, drain_s, stack.progress)
        return _Stopper(stack, limit, risk, drain_s=drain_s, now=now, drop_calls=drop_calls).run(actions)


def refuse_to_drop(stack: Stack, *, only: Sequence[str] = (), renew: bool = False) -> None:
    """``CallsInProgressError`` if a ``stop`` (``renew``: a restart) would drop calls. Changes nothing."""
    choose(stack.outline, only)
    services = stack.services() if renew else stack.outline
    observed = stack.backend.observe(services)
    if renew:
        actions = plan_start(services, observed, only=only, renew=True)
    else:
        actions = plan_stop(services, observed, only=only)
    rooms = at_risk(stack, actions, observed)
    if rooms:
        raise calls_error(rooms, "this would cut them off" if renew else "stop would drop them")


def _require_agents_too(
    actions: Sequence[Action], observed: Mapping[str, Observed], rooms: Sequence[str], *, drop_calls: bool
) -> None:
    """A server alone can't drain: its calls belong to agents that would go on."""
    ended = {one.launch for action in actions for one in action.ended}
    left = [
        one for seen in observed.values() for one in seen.instances if one.calls and one.launch not in ended
    ]
    if left and not drop_calls:
        raise calls_error(rooms, f"{left[0].service} is not being stopped and would lose them")


class _Stopper:
    def __init__(
        self,
        stack: Stack,
        limit: Deadline,
        risk: _Risk,
        *,
        drain_s: float | None,
        now: bool,
        drop_calls: bool,
    ) -> None:
        self._stack = stack
        self._forsaken = risk.forsaken
        self._backend = stack.backend
        self._limit = limit
        self._drain_s = drain_s
        self._now = now
        self._drop_calls = drop_calls

    def run(self, actions: Sequence[Action]) -> Results:
        results: Results = {}
        for action in actions:
            if action.verb is Verb.KEEP:
                results[action.service] = Result(ServiceState.STOPPED, detail=action.reason)
                continue
            self._stack.progress(action.service, "stopping", "")
            began = time.monotonic()
            side_by_side([partial(self._end, instance) for instance in action.ended])
            results[action.service] = Result(
                ServiceState.STOPPED,
                changed=True,
                detail=f"in {time.monotonic() - began:.1f} s",
                action="stop",
            )
            self._stack.progress(action.service, "stopped", results[action.service].detail)
        return results

    def _end(self, instance: Instance) -> None:
        dropped = instance.calls and self._drop_calls and self._drain_s is None
        if self._now or dropped or instance.launch in self._forsaken:
            self._backend.end(instance, self._limit, Force.KILL)
            return
        if instance.calls and self._drain_s is not None:
            self._stack.progress(
                instance.service, "draining", f"{instance.calls} calls, up to {self._drain_s:g} s"
            )
            patience = Deadline(min(self._drain_s, self._limit.remaining_s), "draining")
            if self._backend.end(instance, patience, Force.DRAIN):
                return
        elif self._backend.end(instance, self._limit, Force.STOP):
            return
        if not self._drop_calls:
            raise calls_error(
                instance.rooms or (f"(a call of pid {instance.pid})",),
                f"{instance.service} takes no new ones and ends with the last of them",
            )
        self._backend.end(instance, self._limit, Force.KILL)
