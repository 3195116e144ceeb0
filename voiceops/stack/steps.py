"""Carries out what reconcile decided: starts and stops of one stack, in the order of their needs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from voiceops.deadline import Deadline
from voiceops.errors import CallsInProgressError, ServiceError, VoiceopsError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.backend import StopForce
from voiceops.stack.model import Instance, Observed, misnamed
from voiceops.stack.occupancy import CallRisk, weigh
from voiceops.stack.reconcile import Action, Verb, ends_a_server
from voiceops.stack.results import Results, ServiceResult, side_by_side
from voiceops.stack.room_hooks import send_agents
from voiceops.stack.stack import Prove, Stack
from voiceops.util.words import counted

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


def _calls_left(stack: Stack, services: Sequence[Declared], instance: Instance) -> CallRisk:
    """What the end of a run would cut off now: it has been told to stop and is still there."""
    observed = stack.backend.observe(services)
    seen = observed.get(instance.service, Observed())
    found = [one for one in seen.instances if one.launch == instance.launch]
    action = Action(service=instance.service, verb=Verb.STOP, extra=tuple(found))
    return weigh([action], observed, stack.occupancy)


class Starter:
    """One run of ``start``: ends what must end, then starts side by side what does not need another."""

    def __init__(
        self,
        stack: Stack,
        services: Sequence[Declared],
        observed: Mapping[str, Observed],
        limit: Deadline,
        risk: CallRisk,
        *,
        drop_calls: bool,
        hand_over_s: float | None = None,
        let_in: Callable[[], None] = lambda: None,
    ) -> None:
        """``hand_over_s``: how long a server waits for its last participant, while others take the new rooms.

        ``let_in``: lets callers in who wait for the server; safe to call again.
        """
        self._hand_over_s = hand_over_s
        self._let_in = let_in
        self._stack = stack
        self._abandoned = risk.abandoned
        self._cuts_calls = risk.exists
        self._backend = stack.backend
        self._services = {service.name: service for service in services}
        self._observed = observed
        self._limit = limit
        self._drop_calls = drop_calls
        self._done: dict[str, threading.Event] = {}
        self._begun: dict[str, threading.Event] = {}
        """Set once the process of a service exists, or will not."""
        self._results: Results = {}
        self._launched: set[str] = set()
        """What serves since this start; a unit may have been another run's when it was observed."""

    def run(self, actions: Sequence[Action]) -> Results:
        for action in actions:
            if action.changes or action.verb is Verb.WAIT:
                self._stack.progress(action.service, _DOING[action.verb], action.reason)
        self._make_room(actions)
        steps = [action for action in actions if action.verb is not Verb.STOP]
        self._done = {action.service: threading.Event() for action in steps}
        self._begun = {action.service: threading.Event() for action in steps}
        waiting = [action for action in steps if action.verb is not Verb.KEEP]
        for action in steps:
            if action.verb is Verb.KEEP:
                self._keep(action)
        if self._stack.before_agents and self._rooms_may_be_left(waiting):
            self._stack.before_agents()
        side_by_side([partial(self._carry_out, action) for action in waiting])
        side_by_side([partial(self._end_mute, action) for action in actions if action.mute])
        failed = [result.error for result in self._results.values() if result.error]
        if failed:
            raise failed[0]
        self._let_in()
        # An agent of a call that was cut off may come back by itself, from another host as well.
        if not self._cuts_calls and ends_a_server(actions):
            send_agents(self._stack, [self._stack])
        return {action.service: self._results[action.service] for action in actions}

    def _rooms_may_be_left(self, actions: Sequence[Action]) -> bool:
        """An agent starts anew on a server that has been running; one that starts has none, or its Redis has."""
        anew = {
            self._services[action.service].role
            for action in actions
            if action.verb in (Verb.START, Verb.RESTART)
        }
        return Role.AGENT in anew and Role.SERVER not in anew

    def _make_room(self, actions: Sequence[Action]) -> None:
        """End strays, duplicates and what is restarted, dependents first."""
        for action in reversed(actions):
            for stray in action.strays:
                self._stack.progress(action.service, "ending a stray", stray.reason)
                self._backend.end_stray(stray, self._limit)
            for instance in action.extra:
                if action.gently and instance.role is Role.AGENT and not instance.signalled:
                    self._drain(instance)
                else:
                    self._end(instance)
            if action.verb is Verb.RESTART and action.instance:
                self._end(action.instance)
            if action.verb is Verb.STOP:
                self._results[action.service] = ServiceResult(
                    ServiceState.STOPPED, changed=True, detail=action.reason, action="stop"
                )

    def _shortly(self) -> Deadline:
        return Deadline(min(_DRAIN_BEGINS_S, self._limit.remaining_s), "beginning to drain")

    def _end(self, instance: Instance) -> None:
        if self._hand_over_s is not None and instance.role is Role.SERVER:
            self._hand_over(instance, self._hand_over_s)
            return
        force = StopForce.KILL if instance.launch in self._abandoned else StopForce.STOP
        if self._backend.end(instance, self._limit, force):
            return
        if not self._drop_calls:
            self._calls_left(instance).refuse(f"{instance.service} drains")
        self._backend.end(instance, self._limit, StopForce.KILL)

    def _hand_over(self, server: Instance, drain_s: float) -> None:
        """Wait until the calls of a server are over; ``CallsInProgressError`` where they outlast ``drain_s``."""
        self._stack.progress(
            server.service, "draining", f"takes no new rooms; its calls have up to {drain_s:g} s"
        )
        limit = Deadline(min(drain_s, self._limit.remaining_s), "its calls")
        if not self._backend.end(server, limit, StopForce.HAND_OVER):
            raise CallsInProgressError(
                f"{server.service} still has calls after {drain_s:g} s: it takes no new rooms, and starts again by "
                "itself once they are over",
                hint="run this again to go on from there, or with --yes to drop them",
                data={"rooms": []},
            )

    def _calls_left(self, instance: Instance) -> CallRisk:
        return _calls_left(self._stack, tuple(self._services.values()), instance)

    def _keep(self, action: Action) -> None:
        assert action.instance is not None
        changed = bool(action.extra or action.strays)
        self._results[action.service] = ServiceResult(
            action.instance.state,
            changed=changed,
            pid=action.instance.pid,
            detail=action.reason,
            warning=misnamed(self._services[action.service].agent_name, action.instance),
            draining=[one.pid for one in self._observed[action.service].draining],
        )
        self._begun[action.service].set()
        self._done[action.service].set()

    def _carry_out(self, action: Action) -> None:
        service = self._services[action.service]
        try:
            self._wait_for_needs(service)
            self._results[service.name] = self._bring_up(service, action)
            if service.keeps_rooms and action.changes and self._stack.before_agents:
                # What its Redis has kept goes before the agents that need it are started.
                self._stack.before_agents()
        except VoiceopsError as error:
            self._results[service.name] = ServiceResult(
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
            self._begun[service.name].set()
            self._done[service.name].set()

    def _wait_for_needs(self, service: Declared) -> None:
        for need in service.needs:
            if need not in self._done:
                continue
            started = service.conditions.get(need) == "started"
            reached = (self._begun if started else self._done)[need].wait(self._limit.remaining_s)
            needed = self._results.get(need)
            if needed.error if needed else not (started and reached):
                raise ServiceError(f"{service.name} was not started: it needs {need}, which failed")

    def _bring_up(self, service: Declared, action: Action) -> ServiceResult:
        began = time.monotonic()
        old = action.instance
        if action.verb is Verb.WAIT:
            assert old is not None
            self._begun[service.name].set()
            new = self._backend.wait_ready(
                service, old, self._limit, not_worker_id=old.worker_id if action.renew else ""
            )
        else:
            overlapped = old if action.verb is Verb.OVERLAP else None
            proved = self._start_gated(service, overlapped)
            if proved is None:
                started = self._backend.start(service)
                self._begun[service.name].set()
                proved = self._wait_ready(service, started, replaced=overlapped)
            new = proved
        self._launched.add(new.launch)
        ready_s = time.monotonic() - began
        result = ServiceResult(
            new.state if service.oneshot else ServiceState.READY,
            changed=action.changes,
            pid=new.pid,
            ready_s=ready_s,
            detail=action.reason,
            warning=misnamed(service.agent_name, new),
            action=action.verb.value,
            draining=[one.pid for one in self._observed.get(service.name, Observed()).draining],
        )
        replaced = old if action.verb is Verb.OVERLAP else None
        # The server knows the new one; only now may the old one stop to take calls.
        if replaced and not self._drain(replaced):
            result.draining.append(replaced.pid)
        return result

    def _start_gated(self, service: Declared, replaced: Instance | None) -> Instance | None:
        """Start a run that callers reach once it is proved; None unless it is to replace one that they reach now."""
        gated_start, prove = self._stack.gated_start, self._stack.prove
        if not gated_start or not prove or not replaced or replaced.proving:
            return None
        self._begun[service.name].set()  # the one before it runs
        try:
            return gated_start(service, self._limit, self._among_callers(prove), self._stack.canary)
        except VoiceopsError as error:
            error.add_context(after=f"; the old one (pid {replaced.pid}) keeps serving")
            raise

    def _among_callers(self, prove: Prove) -> Prove:
        """The same once callers are let in: a proof is a call as theirs."""

        def proved(service: Declared, proof_name: str, ended: Callable[[], bool]) -> None:
            self._let_in()
            prove(service, proof_name, ended)

        return proved

    def _drain(self, replaced: Instance) -> bool:
        """Let the old agent drain; True when it is gone.

        One that does not even begin is still offered calls and loses them: it ends unless it has some.
        """
        if replaced.launch in self._launched:
            return True  # it had ended before its unit was started again
        if self._backend.end(replaced, self._shortly(), StopForce.BEGIN):
            return True
        if replaced.calls is not None or not self._is_mute(replaced):
            return False
        risk = self._calls_left(replaced)
        if risk.exists and not self._drop_calls:
            said = "in a call" if risk.rooms else "perhaps in a call"
            self._stack.progress(
                replaced.service, "draining", f"pid {replaced.pid} does not answer and is {said}: it stays"
            )
            return False
        return self._backend.end(replaced, self._limit, StopForce.KILL)

    def _end_mute(self, action: Action) -> None:
        """End those that were told to stop and can't: after their calls nobody else would."""
        result = self._results[action.service]
        for one in action.mute:
            if self._drain(one):
                result.changed = True
                result.draining = [pid for pid in result.draining if pid != one.pid]

    def _is_mute(self, instance: Instance) -> bool:
        seen = self._backend.observe(tuple(self._services.values())).get(instance.service, Observed())
        return any(one.launch == instance.launch and one.calls is None for one in seen.instances)

    def _wait_ready(self, service: Declared, started: Instance, *, replaced: Instance | None) -> Instance:
        """Wait for the new run; one that is to replace another ends if it does not get ready."""
        try:
            return self._backend.wait_ready(service, started, self._limit)
        except VoiceopsError as error:
            if replaced:
                self._backend.end(
                    started, Deadline(service.stop_timeout_s, "ending the new one"), StopForce.KILL
                )
                error.add_context(after=f"; the old one (pid {replaced.pid}) keeps serving")
            raise


class Stopper:
    """Ends what the actions name, dependents first."""

    def __init__(
        self,
        stack: Stack,
        limit: Deadline,
        risk: CallRisk,
        *,
        drain_s: float | None,
        now: bool,
        drop_calls: bool,
    ) -> None:
        self._stack = stack
        self._abandoned = risk.abandoned
        self._backend = stack.backend
        self._limit = limit
        self._drain_s = drain_s
        self._now = now
        self._drop_calls = drop_calls

    def run(self, actions: Sequence[Action]) -> Results:
        results: Results = {}
        for action in actions:
            if action.verb is Verb.KEEP:
                results[action.service] = ServiceResult(ServiceState.STOPPED, detail=action.reason)
                continue
            self._stack.progress(action.service, "stopping", "")
            began = time.monotonic()
            side_by_side([partial(self._end, instance) for instance in action.ended])
            results[action.service] = ServiceResult(
                ServiceState.STOPPED,
                changed=True,
                detail=f"in {time.monotonic() - began:.1f} s",
                action="stop",
            )
            self._stack.progress(action.service, "stopped", results[action.service].detail)
        return results

    def _end(self, instance: Instance) -> None:
        dropped = instance.calls and self._drop_calls and self._drain_s is None
        if self._now or dropped or instance.launch in self._abandoned:
            self._backend.end(instance, self._limit, StopForce.KILL)
            return
        if instance.calls != 0 and self._drain_s is not None:
            count = counted(instance.calls, "call")
            self._stack.progress(instance.service, "draining", f"{count}, up to {self._drain_s:g} s")
            patience = Deadline(min(self._drain_s, self._limit.remaining_s), "draining")
            if self._backend.end(instance, patience, StopForce.DRAIN):
                return
        elif self._backend.end(instance, self._limit, StopForce.STOP):
            return
        if not self._drop_calls:
            left = _calls_left(self._stack, self._stack.outline, instance)
            left.refuse(f"{instance.service} takes no new ones and ends with the last of them")
        self._backend.end(instance, self._limit, StopForce.KILL)
