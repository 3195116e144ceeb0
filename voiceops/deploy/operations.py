"""deploy, setup, drift: what the commands do, with everything real handed in by the wiring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from voiceops.deploy import ledger
from voiceops.deploy.agent_calls import ProofCalls
from voiceops.deploy.canary import CanaryOptions, CanaryWatch
from voiceops.deploy.canary_hosts import refuse_canary, replaces_an_agent
from voiceops.deploy.desired import HostState
from voiceops.deploy.facts_cache import FactsCache
from voiceops.deploy.fleet import Fleet, HostRun
from voiceops.deploy.fleet_agents import FleetAgents, ready
from voiceops.deploy.host_stacks import HostStacks
from voiceops.deploy.host_states import HostStates
from voiceops.deploy.proof import ReleaseProof, prove_agent, read_release_log
from voiceops.deploy.rollback import RollbackOptions, prove_again, roll_back, undo_after_failures
from voiceops.deploy.rollout import HostDeployment, deploy_host, inspect, prepare_host
from voiceops.deploy.trial import ProofSetup, Rollout, refusal, still_serving
from voiceops.errors import EnvironmentBuildError, HostError, ServiceError
from voiceops.fleet.order import cluster_of
from voiceops.fleet.run import skip_after_failures
from voiceops.kinds.model import Declared
from voiceops.model import timeouts
from voiceops.model.calls import CallResult
from voiceops.model.roles import Role
from voiceops.resources import HostReport, ResourceResult, install_python
from voiceops.stack.reconcile import Action, ends_a_server
from voiceops.systemd.names import HostNames

_PYTHON = ResourceResult(id="package:python3", result="changed", changes=("install python3",))
_NO_PYTHON = replace(_PYTHON, changes=("install python3, without which nothing else can be compared",))


class DeployDisplay(Protocol):
    """Whoever shows a deploy while it runs."""

    def say(self, line: str) -> None:
        """One line of progress."""

    def event(self, host: str, kind: str, data: Mapping[str, object]) -> None:
        """What the payload reports while it works."""

    def service(self, host: str, service: str, state: str, words: str) -> None:
        """What the stack reports while it works."""

    def plan(self, fleet: Fleet) -> None:
        """Everything that is going to be done."""

    def begin(self, hosts: Sequence[str]) -> None:
        """The names of the hosts that are about to be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployParts:
    """What a deploy works with, beside the connections to the hosts."""

    facts: FactsCache
    states: HostStates
    stacks: HostStacks
    calls: ProofCalls


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOptions:
    """The flags of a deploy; None: what the inventory says."""

    by: str
    serial: int | str | None = None
    max_fail: int | None = None
    wait_s: float | None = None
    call: bool = True
    check: bool = False
    diff: bool = False
    timeout_s: float = timeouts.DEPLOY_S
    drop_calls: bool = False
    drain_s: float | None = None
    canary: CanaryOptions | None = None
    prepare_only: bool = False
    """``setup``: everything but releases and services."""


@dataclass(slots=True)
class DeployRun:
    """What came of a deploy: the hosts, and the last call that was placed."""

    fleet: Fleet
    call: CallResult | None = None


class Deployer:
    """One run over many hosts."""

    def __init__(self, parts: DeployParts, options: DeployOptions, view: DeployDisplay) -> None:
        self._parts = parts
        self._options = options
        self._view = view
        self._fleet: Fleet | None = None
        self._agents: FleetAgents | None = None
        # Hosts of one kind get the same files: fetched and hashed by one thread, while others connect.
        self._states = ThreadPoolExecutor(1)
        self._helped: set[str] = set()
        """Hosts that had no Python."""

    def deploy(self, fleet: Fleet) -> DeployRun:
        """Look at all hosts, then bring those that differ to what is declared, and call the agent."""
        done = DeployRun(fleet)
        self._fleet = fleet
        self._agents = FleetAgents(fleet, self._parts.stacks, self._view.say)
        settings = fleet.runs[0].host.settings.deploy
        options = self._options
        try:
            fleet.run(self._observe)
            self._view.plan(fleet)
            if options.check:
                return done
            self._refuse_bad(fleet)
            if options.canary is not None:
                refuse_canary(fleet.runs[0], call=self._calls(fleet.runs[0]))
                if not replaces_an_agent(fleet.runs[0]):
                    self._view.say("no agent differs: nothing takes a share of the calls")
            batches = fleet.batches(settings.serial if options.serial is None else options.serial)
            self._view.begin([one.name for batch in batches for one in batch])
            work = self._prepare if options.prepare_only else self._deploy
            most_failures = settings.max_fail if options.max_fail is None else options.max_fail
            fleet.run(work, batches, skip_after_failures(most_failures))
            if not options.prepare_only:
                done.call = self._last_call(fleet)
                if settings.on_fail == "rollback":
                    undo_after_failures(fleet, batches, most_failures, self._undo)
        finally:
            fleet.close()
            self._parts.calls.close()
            self._states.shutdown(cancel_futures=True)
        return done

    def _refuse_bad(self, fleet: Fleet) -> None:
        """Hosts whose declared release is marked bad fail before anything changes, and it goes nowhere else.

        A host on which such a release still serves has its turn: it goes back.
        """
        marked = {run.name: run.planned.bad for run in fleet.runs if run.ok and run.planned}
        bad = {} if self._options.drop_calls else {name: found for name, found in marked.items() if found}
        if not bad:
            return

        def refuse(run: HostRun) -> None:
            raise refusal(run.name, bad[run.name])

        refused = [run for run in fleet.runs if run.name in bad and not _unfinished(run)]
        fleet.run(refuse, [refused])
        # By service: a release is named by its environment too, so the same code has another name elsewhere.
        services = {service: name for name, found in bad.items() for service in found}
        for run in fleet.runs:
            differs = run.planned is not None and not run.planned.as_declared
            if run.ok and differs and run.name not in bad and run.state is not None:
                where = [services[one] for one in run.state.releases if one in services]
                if where:
                    run.skipped = f"its release is marked bad on {where[0]}"

    def _last_call(self, fleet: Fleet) -> CallResult | None:
        """The calls to agents were part of their hosts' deploys; where only servers changed, one through them."""
        changed = [run for run in fleet.runs if run.deployed is not None and run.ok]
        calls = [call for run in changed if run.deployed for call in run.deployed.calls.values()]
        if calls or not changed or not self._calls(changed[0]):
            return calls[-1] if calls else None
        self._missing_agents()
        call = self._parts.calls.through_servers(changed)
        if call is not None and call.failure is not None:
            cause = f"the call through it failed: {call.failure.detail}"
            fleet.run(lambda run: self._unproved(run, cause), [changed])
        return call

    def _undo(self, run: HostRun, before: Mapping[str, str], cause: str) -> None:
        assert run.state is not None
        prove = prove_again(self._parts.calls, run, self._view.say) if self._calls(run) else None
        roll_back(
            run,
            run.state.services,
            self._parts.stacks,
            RollbackOptions(
                only=tuple(before),
                to=before,
                by=self._options.by,
                wait_s=run.host.settings.deploy.lock_wait_s,
                timeout_s=self._options.timeout_s,
                even_bad=True,
                undone_because=cause,
            ),
            prove=prove,
        )

    def _unproved(self, run: HostRun, cause: str) -> None:
        assert run.state is not None
        names, by = run.state.names, self._options.by
        ledger.record(run.transport, names, run.state.services, by=by, action="deploy", unproved=cause)
        raise ServiceError(
            f"{run.name}: the deploy is not proved: {cause}",
            hint="`inv why` looks for the cause; the next deploy calls again",
            data={"host": run.name},
        )

    def _calls(self, run: HostRun) -> bool:
        return self._options.call and run.host.settings.deploy.call

    def _observe(self, run: HostRun) -> None:
        facts = self._parts.facts.read(run.host)
        making = self._states.submit(self._parts.states.of, run.host, facts) if facts else None
        run.open()
        try:
            self._compare(run, making)
        except HostError as error:
            if error.data.get("lacks") != "python3":
                raise
            if self._options.check:
                run.planned = HostDeployment(
                    host=run.name, report=HostReport(host=run.name, results=(_NO_PYTHON,))
                )
                return
            self._view.say(f"{run.name}: installing python3")
            install_python(run.transport)
            self._helped.add(run.name)
            self._compare(run, None)
            run.planned = self._with_python(run, run.planned)

    def _compare(self, run: HostRun, making: Future[HostState] | None) -> None:
        if making is None:
            facts = self._parts.facts.learn(run.host, run.transport)
            making = self._states.submit(self._parts.states.of, run.host, facts)
        run.state = making.result()
        if self._options.prepare_only:
            run.state = run.state.prepared()
        run.planned = inspect(run.transport, run.state, diff=self._options.diff)

    def _with_python(self, run: HostRun, done: HostDeployment | None) -> HostDeployment | None:
        """What was done, and that the host got its Python before."""
        if done is None or run.name not in self._helped:
            return done
        return replace(done, report=replace(done.report, results=(_PYTHON, *done.report.results)))

    def _rollout(self, run: HostRun, *, hand_over: bool = False) -> Rollout:
        settings, options = run.host.settings.deploy, self._options
        return Rollout(
            by=options.by,
            timeout_s=options.timeout_s + (options.canary.for_s if options.canary else 0.0),
            drop_calls=options.drop_calls,
            drain_s=options.drain_s,
            hand_over=hand_over,
            diff=options.diff,
            lock_wait_s=settings.lock_wait_s if options.wait_s is None else options.wait_s,
            keep_releases=settings.keep_releases,
            overlap=settings.overlap,
            even_bad=options.drop_calls,
            call_left_out=settings.call and not options.call,
        )

    def _other_node(self, run: HostRun) -> str:
        """The URL of another livekit-server of this run that is ready, and shares the Redis of this host's; empty: none."""
        cluster = cluster_of(run.host)
        assert self._fleet is not None
        for other in self._fleet.runs if cluster else ():
            same = other is not run and cluster_of(other.host) == cluster
            if same and other.ok and other.state is not None and self._serves(other, other.state):
                return other.host.settings.livekit.url
        return ""

    def _serves(self, run: HostRun, state: HostState) -> bool:
        observed = self._parts.stacks.of(run, state.services).backend.observe(state.services)
        return bool(ready(observed, Role.SERVER))

    def _proving(self, run: HostRun) -> ProofSetup:
        names = HostNames(run.host.settings.project)

        def prove(service: Declared, proof_name: str, ended: Callable[[], bool]) -> ReleaseProof | None:
            if not self._calls(run):
                return None
            self._missing_agents()
            proof = prove_agent(
                service.name,
                lambda name: self._parts.calls.place(run, service, proof_name, ended),
                lambda: read_release_log(run.transport, names, service),
                # By a name of its own it is asked for alone.
                shared=not proof_name and self._parts.calls.shared(run),
                ended=ended,
            )
            if proof.cause:
                self._view.say(f"{run.name}: {service.name}: {proof.cause}")
            elif proof.elsewhere:
                self._view.say(f"{run.name}: {service.name}: agents of other hosts answered the calls")
            return proof

        canary = None
        if self._options.canary is not None:
            canary = CanaryWatch(
                self._options.canary,
                host=run.name,
                read_log=lambda service: read_release_log(run.transport, names, service),
                say=self._view.say,
            )
        return ProofSetup(prove=prove, calls=self._calls(run), say=self._view.say, canary=canary)

    def _event(self, run: HostRun) -> Callable[[str, Mapping[str, object]], None]:
        return lambda kind, data: self._view.event(run.name, kind, data)

    def _prepare(self, run: HostRun) -> None:
        assert run.state is not None
        done = prepare_host(run.transport, run.state, self._rollout(run), on_event=self._event(run))
        run.deployed = self._with_python(run, done)

    def _deploy(self, run: HostRun) -> None:
        try:
            self._deploy_once(run)
        except EnvironmentBuildError:
            # A host that got another Python since its facts were noted refuses its wheels.
            known = self._parts.facts.read(run.host)
            if self._parts.facts.learn(run.host, run.transport) == known:
                raise
            self._observe(run)
            self._deploy_once(run)

    def _deploy_once(self, run: HostRun) -> None:
        state = run.state
        assert state is not None
        assert run.planned is not None
        if self._calls(run) and starts_an_agent(run.planned.actions, state.services):
            self._parts.calls.prepare(run)  # its process loads while the agent starts
        ends_one = ends_a_server(run.planned.actions)
        missing = self._missing_agents() if ends_one else []
        if missing and not self._options.drop_calls:
            raise ServiceError(
                f"{run.name}: its livekit-server was not ended: the agents of {', '.join(missing)} have not registered "
                "again with the one before",
                hint=f"`inv why --host {missing[0]}` looks for the cause; --yes goes on without them",
            )
        other_node = self._other_node(run) if ends_one and self._options.drain_s is not None else ""
        done = deploy_host(
            run.transport,
            state,
            run.planned,
            lambda services: self._parts.stacks.of(run, services, other_node),
            self._rollout(run, hand_over=bool(other_node)),
            self._proving(run),
            on_event=self._event(run),
        )
        run.deployed = self._with_python(run, done)
        if ends_one and self._agents is not None:
            self._agents.server_ended(run, cut_calls=self._options.drop_calls)

    def _missing_agents(self) -> list[str]:
        """The hosts whose agents have not registered again with a server that this run has restarted; waits for them."""
        return self._agents.wait() if self._agents is not None else []


def starts_an_agent(actions: Sequence[Action], services: Sequence[Declared]) -> bool:
    """Whether an agent is started or replaced, so that it is called afterwards."""
    agents = {one.name for one in services if one.is_agent}
    return any(one.changes and one.service in agents for one in actions)


def _unfinished(run: HostRun) -> bool:
    planned = run.planned
    return planned is not None and bool(still_serving(planned.bad, planned.observed, planned.unproved))
