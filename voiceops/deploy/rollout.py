"""Bring one host to its desired state, and prove that it is there.

One exec carries payload and desired state, and looks at the units as well: where nothing differs,
that was all. Else the services follow by the same reconcile as everywhere, under the lock of that
first exec, which falls with this process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voiceops.deadline import Deadline
from voiceops.deploy import ledger, ledger_onhost
from voiceops.deploy.desired import HostState
from voiceops.errors import ServiceError
from voiceops.ports import Transport
from voiceops.resources import HostReport, Lease, Look, Result, State, Venv, applied, apply, check
from voiceops.resources.client import Event
from voiceops.stack import operations, systemd_sight
from voiceops.stack.model import Observed, judge
from voiceops.stack.operations import Stack
from voiceops.stack.reconcile import Action, Verb, plan_start, refuse_strays
from voiceops.stack.results import Results, calls_error
from voiceops.systemd import onhost

MakeStack = Callable[[Callable[[Deadline], AbstractContextManager[None]]], Stack]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How hosts are deployed; the same for all hosts of one run."""

    by: str
    timeout_s: float = 300.0
    drop_calls: bool = False
    diff: bool = False
    lock_wait_s: float = 10.0
    keep_releases: int = 5


@dataclass(slots=True, kw_only=True)
class Deployed:
    """What a deploy did to one host, or would do."""

    host: str
    report: HostReport
    actions: tuple[Action, ...] = ()
    unrecorded: bool = False
    """An earlier deploy ended before it wrote down what it had proved."""
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


def inspect(transport: Transport, state: HostState, *, diff: bool = False) -> Deployed:
    """What ``deploy`` would do. Changes nothing."""
    report = check(transport, _payload_state(state), diff=diff, look=_look(state))
    done = Deployed(host=transport.name, report=report, releases=state.releases)
    if report.look is not None:
        observed = _observed(state, report.look)
        done.actions = plan_start(state.services, observed) if state.services else ()
        done.observed = observed
        done.unrecorded = not _recorded(state, report.look)
        done.report = _with_traces(report, report.look, state, done.actions)
    return done


def prepare_host(
    transport: Transport, state: HostState, rollout: Rollout, *, on_event: Event | None = None
) -> Deployed:
    """The host without its services: account, folders, programs, wheels, kernel settings."""
    lease = Lease(owner=rollout.by, reason="setup", wait_s=rollout.lock_wait_s)
    report = apply(transport, _payload_state(state), lease=lease, diff=rollout.diff, on_event=on_event)
    report.raise_for_failure()
    return Deployed(host=transport.name, report=report)


def deploy_host(
    transport: Transport,
    state: HostState,
    planned: Deployed,
    make_stack: MakeStack,
    rollout: Rollout,
    *,
    on_event: Event | None = None,
) -> Deployed:
    """Make the host as declared; safe to call again at any time, also after a run that was killed.

    Raises what failed, the log's end with it. An agent that does not become ready is stopped and
    the one before it goes on. ``CallsInProgressError`` comes before anything has changed.
    """
    stack = make_stack(lambda limit: nullcontext())
    refuse_strays(planned.actions, transport.name)
    rooms = operations.at_risk(stack, planned.actions, planned.observed)
    if rooms and not rollout.drop_calls:
        raise calls_error(rooms, "this deploy would cut them off; nothing was changed")
    lease = Lease(owner=rollout.by, reason="deploy", wait_s=rollout.lock_wait_s)
    with applied(
        transport,
        _payload_state(state),
        lease=lease,
        stay_s=rollout.timeout_s,
        look=_look(state),
        diff=rollout.diff,
        on_event=on_event,
    ) as report:
        report.raise_for_failure()
        look = report.look
        assert look is not None
        actions = plan_start(state.services, _observed(state, look))
        report = _with_traces(report, look, state, actions)
        done = Deployed(host=transport.name, report=report, actions=actions, releases=state.releases)
        if not report.changed and _recorded(state, look) and not any(_acts(one) for one in actions):
            return done  # somebody else was faster
        done.services = _bring_up(transport, state, stack, rollout)
        _start_with_host(state, stack, report)
        _prove(transport.name, state, stack)
        ledger.record(
            transport,
            state.names,
            state.services,
            units=_units(state),
            venv=_venv(state),
            keep=rollout.keep_releases,
            by=rollout.by,
        )
    return done


def _recorded(state: HostState, look: Mapping[str, Any]) -> bool:
    found: Mapping[str, Any] = look["current"]
    return bool(found.get("services", {}) == ledger.as_current(state.services))


def _with_traces(
    report: HostReport, look: Mapping[str, Any], state: HostState, actions: Sequence[Action]
) -> HostReport:
    """The report, with what the ledger and systemd keep of each agent that goes on as it is.

    The ledger writes the link, and systemd's link to an instance is made once it has proved itself:
    neither is a resource, and yet both can be changed by hand.
    """
    if not _recorded(state, look):
        return report
    names = state.names
    traces: list[Result] = []
    enabled = {unit["unit"]: unit["enabled"] for unit in look["units"]["units"]}
    kept = {one.service: one.instance for one in actions if not _acts(one)}
    for service in state.services:
        running = kept.get(service.name)
        if not service.release or running is None:
            continue
        target = look["links"].get(service.name, "nothing")
        if target != f"../releases/{service.release}":
            link = f"{names.opt}/current/{service.name}"
            traces.append(_changed(f"symlink:{link}", f"{target} -> ../releases/{service.release}"))
        if enabled.get(running.launch) != "enabled":
            traces.append(_changed(f"unit:{running.launch}", "enable"))
    return replace(report, results=(*report.results, *traces))


def _changed(resource: str, change: str) -> Result:
    return Result(id=resource, result="changed", changes=(change,))


def _start_with_host(state: HostState, stack: Stack, report: HostReport) -> None:
    """Let the agents start with the host whose units somebody disabled; waiting for one enables it."""
    disabled = {one.id for one in report.results if one.changes == ("enable",)}
    seen = stack.backend.observe(state.services) if disabled else {}
    for service in state.services:
        for running in seen.get(service.name, Observed()).current:
            if f"unit:{running.launch}" in disabled and service.is_agent:
                stack.backend.wait_ready(service, running, Deadline(service.ready_timeout_s, "enabling"))


def _bring_up(transport: Transport, state: HostState, stack: Stack, rollout: Rollout) -> Results:
    try:
        return operations.start(stack, drop_calls=rollout.drop_calls, timeout_s=rollout.timeout_s)
    except ServiceError as error:
        service = str(error.data.get("service", ""))
        release = state.releases.get(service, "")
        if release:
            bad = ledger.Entry(
                service=service,
                release=release,
                result="bad",
                by=rollout.by,
                action="deploy",
                why=error.message,
            )
            ledger.mark_bad(transport, state.names, [bad])
        raise


def _prove(host: str, state: HostState, stack: Stack) -> None:
    """The host read back: what runs was started with what is declared."""
    seen = stack.backend.observe(state.services)
    for service in state.services:
        verdict = judge(seen.get(service.name, Observed()))
        running = verdict.instance
        if verdict.ok and running is not None and running.digest == service.digest:
            continue
        detail = verdict.detail or "it runs with another configuration than the one declared"
        raise ServiceError(
            f"{host}: the deploy did not take effect on {service.name}: {verdict.state}, {detail}",
            hint=f"`inv logs --host {host} --only {service.name}` shows more; then deploy again",
            data={"host": host, "service": service.name},
        )


def _acts(action: Action) -> bool:
    return action.changes or action.verb is Verb.WAIT


def _payload_state(state: HostState) -> State:
    return State(state.names.project, state.resources)


def _look(state: HostState) -> Look:
    """The units as the backend sees them, and the ledger's current releases."""
    program = "\n".join(
        [
            "from __future__ import annotations",
            _code(onhost.__file__),
            "_look_at_units = look",
            _code(ledger_onhost.__file__),
            "look = lambda asked: {'units': _look_at_units(asked), 'current': current(asked), 'links': links(asked)}",
        ]
    )
    asked = systemd_sight.look_request(state.names, state.services)
    return Look(program=program, request={**asked, "state": state.names.state})


def _code(file: str) -> str:
    """A program to be part of another: a future import must stand first."""
    return re.sub(r"^from __future__.*\n", "", Path(file).read_text(), flags=re.MULTILINE)


def _observed(state: HostState, look: Mapping[str, Any]) -> dict[str, Observed]:
    return systemd_sight.observed(state.names, state.services, look["units"])


def _units(state: HostState) -> Sequence[str]:
    prefix = "file:/etc/systemd/system/"
    return [one.id.removeprefix(prefix) for one in state.resources if one.id.startswith(prefix)]


def _venv(state: HostState) -> str:
    found = next((one for one in state.resources if isinstance(one, Venv)), None)
    return f"{Path(found.path).name}-{found.digest}" if found else ""
