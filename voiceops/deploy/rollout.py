"""Bring one host to its desired state, and prove that it is there.

One exec carries payload and desired state, and observes the units as well: where nothing differs,
that was all. Else the services follow by the same reconcile as everywhere, under the lock of that
first exec, which falls with this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from voiceops.deploy import ledger
from voiceops.deploy.canary import CanaryResult
from voiceops.deploy.desired import HostState
from voiceops.deploy.host_observation import (
    host_probe,
    marked_bad,
    observed_in,
    recorded,
    unproved_cause,
    written,
)
from voiceops.deploy.overlap_memory import refuse_without_memory
from voiceops.deploy.trial import MakeStack, ProofSetup, ReleaseTrial, Rollout
from voiceops.model.calls import CallResult
from voiceops.ports import Transport
from voiceops.remote import verbs
from voiceops.remote.call import Event, call
from voiceops.remote.messages import HostObservation
from voiceops.resources import HostReport, Lease, ResourceResult, State, Venv, applied, apply, check
from voiceops.stack import operations
from voiceops.stack.model import Observed
from voiceops.stack.reconcile import Action, Verb, plan_start, refuse_strays, without_server
from voiceops.stack.results import Results

_WAIT_HINT = "give --drain 600 to wait for a moment without calls, or --yes to drop them"
_GOING_BACK_S = 180.0
"""How long the lock stays beyond the command's own time: for calls, and for going back after them."""


@dataclass(slots=True, kw_only=True)
class HostDeployment:
    """What a deploy did to one host, or would do."""

    host: str
    report: HostReport
    actions: tuple[Action, ...] = ()
    unrecorded: bool = False
    """An earlier deploy ended before it wrote down what it had proved, or its proof failed."""
    unproved: str = ""
    """Why the last proof of what runs failed."""
    bad: Mapping[str, ledger.LedgerEntry] = field(default_factory=dict)
    """Service to its entry, where the declared release is marked bad."""
    calls: Mapping[str, CallResult] = field(default_factory=dict)
    """The last call to each agent that was called."""
    canaries: Mapping[str, CanaryResult] = field(default_factory=dict)
    """What new releases have shown that took a share of new calls first, by service."""
    observed: Mapping[str, Observed] = field(default_factory=dict, repr=False)
    """The services as they were when the plan was made."""
    services: Results = field(default_factory=dict)
    releases: Mapping[str, str] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Resources and services that changed, or would."""
        acted = sum(result.changed for result in self.services.values())
        return self.report.changed + (acted if self.services else sum(one.changes for one in self.actions))

    @property
    def as_declared(self) -> bool:
        """Of a check: nothing would change, and nothing is unknown."""
        acts = any(_acts(one) for one in self.actions)
        return self.report.as_declared and not acts and not self.unrecorded


def inspect(transport: Transport, state: HostState, *, diff: bool = False) -> HostDeployment:
    """What ``deploy`` would do. Changes nothing."""
    report = check(transport, _payload_state(state), diff=diff, probe=host_probe(state))
    done = HostDeployment(host=transport.name, report=report, releases=state.releases)
    found = report.observation
    if found is not None:
        observed = observed_in(state, found)
        done.actions = plan_start(state.services, observed) if state.services else ()
        done.observed = observed
        done.unrecorded = not recorded(state, found)
        done.unproved = unproved_cause(state, found)
        done.bad = marked_bad(state, found)
        done.report = _with_traces(report, found, state, done.actions)
    return done


def prepare_host(
    transport: Transport, state: HostState, rollout: Rollout, *, on_event: Event | None = None
) -> HostDeployment:
    """The host without its services: account, folders, programs, wheels, kernel settings."""
    lease = Lease(owner=rollout.by, reason="setup", wait_s=rollout.lock_wait_s)
    report = apply(transport, _payload_state(state), lease=lease, diff=rollout.diff, on_event=on_event)
    report.raise_for_failure()
    return HostDeployment(host=transport.name, report=report)


def deploy_host(
    transport: Transport,
    state: HostState,
    planned: HostDeployment,
    make_stack: MakeStack,
    rollout: Rollout,
    proving: ProofSetup,
    *,
    on_event: Event | None = None,
) -> HostDeployment:
    """Make the host as declared; safe to call again at any time, also after a run that was killed.

    Raises what failed, the log's end with it. An agent that does not become ready, or does not answer
    its call, is marked bad and the release before it serves. ``CallsInProgressError``, and the
    ``ServiceError`` for a release that is marked bad already, come before anything has changed.
    """
    stack = make_stack(state.services)
    refuse_strays(planned.actions, transport.name)
    if not rollout.drop_calls:
        endangering = without_server(planned.actions) if rollout.hand_over else planned.actions
        risk = operations.calls_at_stake(stack, endangering, planned.observed)
        if risk.exists and rollout.drain_s is not None:
            risk = operations.wait_until_empty(
                stack, lambda: operations.plan(stack, state.services), rollout.drain_s
            ).risk
        risk.refuse("this deploy would cut them off; nothing was changed", _WAIT_HINT)
    if rollout.overlap == "auto":
        refuse_without_memory(transport, state.names, planned.actions)
    lease = Lease(owner=rollout.by, reason="deploy", wait_s=rollout.lock_wait_s)
    with applied(
        transport,
        _payload_state(state),
        lease=lease,
        stay_s=rollout.timeout_s + (rollout.drain_s or 0.0) + _GOING_BACK_S,
        diff=rollout.diff,
        on_event=on_event,
    ) as report:
        report.raise_for_failure()
        found = call(transport, verbs.OBSERVE, host_probe(state))
        actions = plan_start(state.services, observed_in(state, found))
        report = _with_traces(report, found, state, actions)
        done = HostDeployment(host=transport.name, report=report, actions=actions, releases=state.releases)
        if not report.changed and recorded(state, found) and not any(_acts(one) for one in actions):
            return done  # somebody else was faster
        trial = ReleaseTrial(transport, state, make_stack, rollout, proving, found)
        trial.refuse_bad()
        done.services = trial.bring_up(stack, report)
        done.canaries = trial.canaries
        done.calls = trial.call()
        if done.calls:
            trial.confirm(stack)
        ledger.record(
            transport,
            state.names,
            state.services,
            by=rollout.by,
            tidy={"units": _units(state), "venv": _venv(state), "keep": rollout.keep_releases},
        )
    return done


def _with_traces(
    report: HostReport, found: HostObservation, state: HostState, actions: Sequence[Action]
) -> HostReport:
    """The report, with what the ledger and systemd keep of each agent that goes on as it is.

    The ledger writes the link, and systemd's link to an instance is made once it has proved itself:
    neither is a resource, and yet both can be changed by hand.
    """
    if not written(state, found):
        return report
    names = state.names
    traces: list[ResourceResult] = []
    enabled = {unit["unit"]: unit["enabled"] for unit in found["units"]}
    kept = {one.service: one.instance for one in actions if not _acts(one)}
    for service in state.services:
        running = kept.get(service.name)
        if not service.release or running is None:
            continue
        target = found["links"].get(service.name, "nothing")
        if target != f"../releases/{service.release}":
            link = f"{names.opt}/current/{service.name}"
            traces.append(_changed(f"symlink:{link}", f"{target} -> ../releases/{service.release}"))
        if enabled.get(running.launch) != "enabled":
            traces.append(_changed(f"unit:{running.launch}", "enable"))
    return replace(report, results=(*report.results, *traces))


def _changed(resource: str, change: str) -> ResourceResult:
    return ResourceResult(id=resource, result="changed", changes=(change,))


def _acts(action: Action) -> bool:
    return action.changes or action.verb is Verb.WAIT


def _payload_state(state: HostState) -> State:
    return State(state.names.project, state.resources)


def _units(state: HostState) -> list[str]:
    prefix = "file:/etc/systemd/system/"
    return [one.id.removeprefix(prefix) for one in state.resources if one.id.startswith(prefix)]


def _venv(state: HostState) -> str:
    found = next((one for one in state.resources if isinstance(one, Venv)), None)
    return f"{Path(found.path).name}-{found.digest}" if found else ""
