"""New releases of a host from their start to their proof: either they serve, or the host is back where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from voiceops.deadline import Deadline
from voiceops.deploy import ledger
from voiceops.deploy.automatic_rollback import AutomaticRollback, FailedRelease
from voiceops.deploy.canary import CanaryResult, CanaryWatch
from voiceops.deploy.desired import HostState
from voiceops.deploy.host_observation import marked_bad, observed_in, unproved_cause
from voiceops.deploy.proof import ReleaseProof
from voiceops.errors import ServiceError
from voiceops.kinds.model import Declared
from voiceops.model.calls import CallResult
from voiceops.model.states import ServiceState
from voiceops.ports import Transport
from voiceops.remote.messages import HostObservation
from voiceops.resources import HostReport
from voiceops.stack import operations
from voiceops.stack.backend import StopForce
from voiceops.stack.model import Observed, judge
from voiceops.stack.reconcile import Verb, plan_start
from voiceops.stack.results import Results
from voiceops.stack.stack import Stack
from voiceops.util.words import counted

MakeStack = Callable[[tuple[Declared, ...]], Stack]
"""The stack of the host with these services; its lock is held already."""
_READINGS = 3


def _unknown() -> bool:
    """Nobody asks whether the agent that is called has ended: several may take the call."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How hosts are deployed; the same for all hosts of one run."""

    by: str
    timeout_s: float = 300.0
    drop_calls: bool = False
    drain_s: float | None = None
    """How long a server that has to restart waits until nobody is in a call."""
    hand_over: bool = False
    """Other servers take the new rooms meanwhile, so that it waits for its own calls alone."""
    diff: bool = False
    lock_wait_s: float = 10.0
    keep_releases: int = 5
    overlap: Literal["auto", "always", "never"] = "auto"
    """``auto``: only where the memory of the host allows it; ``never``: the old agent drains first."""
    even_bad: bool = False
    """Try a release again that is marked bad."""
    call_left_out: bool = False
    """Somebody asked for no call this time; where the last one failed, that does not prove anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofSetup:
    """How the agents of a host are called, and who is told meanwhile."""

    prove: Callable[[Declared, str, Callable[[], bool]], ReleaseProof | None]
    """Calls a service's agent, or the one that registered a name, until it has ended; None where calls are left out."""
    calls: bool
    """Calls are not left out."""
    say: Callable[[str], None]
    canary: CanaryWatch | None = None
    """Lets what is proved take a share of new calls first."""


class ReleaseTrial:
    """The new releases of a host until they have proved themselves, or the host is back where it was."""

    def __init__(
        self,
        transport: Transport,
        state: HostState,
        make_stack: MakeStack,
        rollout: Rollout,
        proving: ProofSetup,
        found: HostObservation,
    ) -> None:
        self._transport = transport
        self._state = state
        self._rollout = rollout
        self._proving = proving
        self._found = found
        self._automatic = AutomaticRollback(
            transport=transport,
            state=state,
            make_stack=make_stack,
            by=rollout.by,
            timeout_s=rollout.timeout_s,
            say=proving.say,
            prove=lambda service: proving.prove(service, "", _unknown),
        )
        self._proved: dict[str, CallResult] = {}
        """Calls that proved releases before any caller reached them."""
        self._called = False
        """An agent was called that callers reach already."""
        current = found["current"].get("services", {})
        self._new = tuple(
            name
            for name, release in state.releases.items()
            if current.get(name, {}).get("release") != release or unproved_cause(state, found)
        )

    def refuse_bad(self) -> None:
        """Raise for releases that are marked bad; where one of them serves, the host goes back first."""
        bad = marked_bad(self._state, self._found)
        if not bad or self._rollout.even_bad:
            return
        observed = observed_in(self._state, self._found)
        serving = still_serving(bad, observed, unproved_cause(self._state, self._found))
        if not serving:
            raise refusal(self._transport.name, bad)
        why = "; ".join(bad[name].why for name in serving)
        raise self._automatic.go_back(FailedRelease(services=serving, new=self._new, cause=why, noted=True))

    def bring_up(self, stack: Stack, report: HostReport) -> Results:
        """Start what differs, and read back that it runs."""
        rollout = self._rollout
        started = False
        if rollout.overlap == "never":
            self._drain_first(stack)
        elif self._proving.calls:
            watch = self._proving.canary
            stack = replace(stack, prove=self._prove_unreached, canary=watch.beside(stack) if watch else None)
        try:
            results = operations.start(
                stack,
                drop_calls=rollout.drop_calls,
                drain_s=rollout.drain_s,
                observed=None if rollout.overlap == "never" else observed_in(self._state, self._found),
                hand_over=rollout.hand_over,
                timeout_s=rollout.timeout_s,
            )
            started = True
            _start_with_host(self._state, stack, report)
            read_back(self._transport.name, self._state, stack)
        except ServiceError as error:
            raise self._gone_back(error, running=started) from error
        return results

    @property
    def canaries(self) -> Mapping[str, CanaryResult]:
        """What the releases have shown that took a share of new calls first, by service."""
        return self._proving.canary.results if self._proving.canary else {}

    def _drain_first(self, stack: Stack) -> None:
        """Wait until the agents that are replaced are gone; ``ServiceError`` where calls outlast the deploy."""
        for action in plan_start(self._state.services, stack.backend.observe(self._state.services)):
            old = action.instance
            if action.verb is not Verb.OVERLAP or old is None:
                continue
            stack.progress(action.service, "draining", "its memory is needed: nobody takes calls meanwhile")
            limit = Deadline(self._rollout.timeout_s, "draining")
            if not stack.backend.end(old, limit, StopForce.DRAIN):
                raise ServiceError(
                    f"{self._transport.name}: {action.service} still drains after {self._rollout.timeout_s:g} s; "
                    "it takes no new calls",
                    hint="deploy again once its calls are over, or with a longer --timeout",
                    data={"host": self._transport.name},
                )

    def confirm(self, stack: Stack) -> None:
        """Read back once more after the calls: an agent that blocks in its first call has answered it.

        What was called behind its gate was read back after that.
        """
        if not self._called:
            return
        try:
            read_back(self._transport.name, self._state, stack)
        except ServiceError as error:
            raise self._gone_back(error, running=True) from error

    def _gone_back(self, error: ServiceError, *, running: bool) -> ServiceError:
        """What to raise for it; where a new release is at fault, the host is back before that."""
        service = str(error.data.get("service", ""))
        if service not in self._new:
            return error
        gone_back = self._automatic.go_back(
            FailedRelease(
                services=(service,),
                new=self._new,
                cause=error.message.removeprefix(f"{self._transport.name}: "),
                log_tail=error.log_tail,
                raised=bool(error.data.get("raised")),
                running=running,
            )
        )
        if "canary" in error.data:
            gone_back.data["canary"] = error.data["canary"]
        return gone_back

    def call(self) -> dict[str, CallResult]:
        """Call each new agent, or where none is new the first one; what fails is never recorded as good."""
        calls = dict(self._proved)
        agents = [one for one in self._state.services if one.is_agent]
        for service in [one for one in agents if one.name in self._new] or agents[:1]:
            if service.name in self._proved:
                continue
            proof = self._proving.prove(service, "", _unknown)
            if proof is None:
                self._require_proved()
                break
            self._called = True
            if proof.call is not None:
                calls[service.name] = proof.call
            if not proof.ok:
                raise self._failed(service, proof)
        return calls

    def _prove_unreached(self, service: Declared, proof_name: str, ended: Callable[[], bool]) -> None:
        """Call the agent that registered this name; ``ServiceError`` unless it answers."""
        proof = self._proving.prove(service, proof_name, ended)
        if proof is None:
            return
        if proof.call is not None and proof.ok:
            self._proved[service.name] = proof.call
            return
        host = self._transport.name
        data: dict[str, object] = {"host": host, "raised": proof.raised}
        if proof.blames_agent:
            data["service"] = service.name
        raise ServiceError(
            f"{host}: {proof.cause}"
            if proof.blames_agent
            else f"{host}: the deploy is not proved: {proof.cause}",
            hint="`inv why` looks for the cause; the next deploy calls again",
            log_tail=proof.log_tail,
            data=data,
        )

    def _failed(self, service: Declared, proof: ReleaseProof) -> ServiceError:
        if proof.blames_agent and service.name in self._new:
            failed = FailedRelease(
                services=(service.name,),
                new=self._new,
                cause=proof.cause,
                log_tail=proof.log_tail,
                raised=proof.raised,
            )
            return self._automatic.go_back(failed)
        host = self._transport.name
        ledger.record(
            self._transport,
            self._state.names,
            self._state.services,
            by=self._rollout.by,
            action="deploy",
            unproved=proof.cause,
        )
        same = "" if not proof.blames_agent else "; its release is the one that served before, so it stays"
        return ServiceError(
            f"{host}: the deploy is not proved: {proof.cause}{same}",
            hint=f"`inv why --host {host}` looks for the cause; the next deploy calls again",
            log_tail=proof.log_tail,
            data={"host": host, "service": service.name},
        )

    def _require_proved(self) -> None:
        """Without a call, a state whose last call failed is still one that nobody has proved."""
        unproved = unproved_cause(self._state, self._found)
        if unproved and self._rollout.call_left_out:
            host = self._transport.name
            raise ServiceError(
                f"{host}: the last call to what runs there failed: {unproved}",
                hint="without --no-call the deploy calls again",
                data={"host": host},
            )


def still_serving(
    bad: Mapping[str, ledger.LedgerEntry], observed: Mapping[str, Observed], unproved: str
) -> tuple[str, ...]:
    """Agents whose bad release serves since a run was ended before the host went back.

    One that is written down as ``unproved`` stayed on purpose: there was nothing to go back to.
    """
    return tuple(
        service
        for service, entry in bad.items()
        if not unproved
        and any(one.release == entry.release for one in observed.get(service, Observed()).current)
    )


def refusal(host: str, bad: Mapping[str, ledger.LedgerEntry]) -> ServiceError:
    """What to raise where a declared release is marked bad and nobody asked to try it again."""
    named = "; ".join(ledger.marked_bad(service, entry) for service, entry in bad.items())
    return ServiceError(
        f"{host}: {named}; nothing was changed",
        hint="correct it and deploy again, or try this release once more with --yes",
        data={"host": host, "bad": {service: entry.release for service, entry in bad.items()}},
    )


def _start_with_host(state: HostState, stack: Stack, report: HostReport) -> None:
    """Let the agents start with the host whose units somebody disabled; waiting for one enables it."""
    disabled = {one.id for one in report.results if one.changes == ("enable",)}
    seen = stack.backend.observe(state.services) if disabled else {}
    for service in state.services:
        for running in seen.get(service.name, Observed()).current:
            if f"unit:{running.launch}" in disabled and service.is_agent:
                stack.backend.wait_ready(service, running, Deadline(service.ready_timeout_s, "enabling"))


def read_back(host: str, state: HostState, stack: Stack) -> None:
    """The host read back: what runs was started with what is declared."""
    for _ in range(_READINGS):
        seen = stack.backend.observe(state.services)
        verdicts = [judge(seen.get(service.name, Observed())) for service in state.services]
        if not any(one.state is ServiceState.UNRESPONSIVE for one in verdicts):
            break  # one that is busy answers the next time; one that is blocked does not
    for service, verdict in zip(state.services, verdicts, strict=True):
        running = verdict.instance
        if verdict.ok and running is not None and running.digest == service.digest:
            continue
        detail = verdict.detail or "it runs with another configuration than the one declared"
        if running is not None and running.restart_count:
            detail += f"; it has ended and was restarted ({counted(running.restart_count, 'restart')} so far)"
        raise ServiceError(
            f"{host}: the deploy did not take effect on {service.name}: {verdict.state}, {detail}",
            hint=f"`inv logs --host {host} --only {service.name}` shows more; then deploy again",
            data={"host": host, "service": service.name},
        )
