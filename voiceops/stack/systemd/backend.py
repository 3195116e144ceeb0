"""The systemd backend: services as units on a host, behind the same reconcile as plain processes.

The units are there already: ``deploy`` writes them. Each method is one call to the host, which observes, acts
and waits there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from voiceops.deadline import Deadline
from voiceops.errors import ServiceError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.ports import Transport
from voiceops.remote import verbs
from voiceops.remote.call import call
from voiceops.remote.unit_messages import (
    EndAnswer,
    EndProcess,
    EndUnit,
    ReadyAnswer,
    StartUnit,
    WaitForUnit,
)
from voiceops.stack.backend import StopForce
from voiceops.stack.logs.cause import raised_in
from voiceops.stack.logs.files import brief
from voiceops.stack.model import Instance, Observed, Stray
from voiceops.stack.systemd import observe
from voiceops.systemd.names import HostNames

_ANSWER_S = 30.0
"""What an answer may take beyond the wait that it is about."""
_OBSERVE_S = 60.0
_TAIL_LINES = 15
_STOP_S = 15.0
"""How long an agent without calls may take to end before it is killed."""
_KILLED_S = 5.0


class Gate(str, Enum):
    """Whether callers reach an agent that is waited for."""

    NONE = ""
    """As it was started without a gate."""
    CLOSED = "closed"
    OPEN = "open"


class SystemdBackend:
    """Implements ``stack.backend.Backend`` for one project on one host."""

    def __init__(
        self,
        names: HostNames,
        transport: Transport,
        *,
        settle_s: float = 1.5,
        takeover: Sequence[str] = (),
        caller_ports: Sequence[int] = (),
    ) -> None:
        """``takeover``: what leads the callers of a livekit-server to another one while it restarts; ``caller_ports``: the
        ports on which they come."""
        self._takeover = list(takeover)
        self._caller_ports = list(caller_ports)
        self._names = names
        self._transport = transport
        self.settle_s = settle_s
        """How long a unit has to stay up before it counts: a restart loop is active half of the time."""
        self._failed: dict[str, list[str]] = {}
        """Units that had failed when they were observed, by service."""

    def observe(self, services: Sequence[Declared]) -> Mapping[str, Observed]:
        probe = observe.host_probe(self._names, services)
        answer = call(self._transport, verbs.OBSERVE, probe, timeout_s=_OBSERVE_S + _ANSWER_S)
        self._failed = observe.failed_units(self._names, services, answer)
        return observe.observed(self._names, services, answer)

    def forget_failures(self, services: Sequence[str]) -> None:
        """Have what has failed count as stopped by a person, whom the monitor of the host obeys."""
        for unit in [unit for name in services for unit in self._failed.get(name, ())]:
            request = EndUnit(
                state_dir=self._names.state,
                unit=unit,
                kill=False,
                begin=False,
                timeout_s=0.0,
                again_s=0.0,
                hand_over=False,
                takeover=[],
                table="",
                ports=[],
            )
            call(self._transport, verbs.END_UNIT, request, timeout_s=_ANSWER_S)

    def start(self, service: Declared, *, proof_name: str = "") -> Instance:
        """Start one more run; with ``proof_name`` an agent that registers that name until its gate is opened."""
        instance = service.release if service.is_agent else ""
        unit = self._names.unit(service.name, instance)
        twins = (
            [self._names.release(instance), self._names.environment_file(service.name, instance)]
            if instance
            else []
        )
        answer = call(
            self._transport,
            verbs.START_UNIT,
            StartUnit(
                state_dir=self._names.state, unit=unit, instance=instance, twins=twins, proof_name=proof_name
            ),
            timeout_s=_OBSERVE_S + _ANSWER_S,
        )
        return observe.instance(self._names, service, answer["unit"])

    def wait_ready(
        self,
        service: Declared,
        instance: Instance,
        limit: Deadline,
        *,
        not_worker_id: str = "",
        gate: Gate = Gate.NONE,
        pid: int = 0,
        share: float = 1.0,
    ) -> Instance:
        """Wait until the unit can do its job, by this process if one is given.

        With ``gate`` CLOSED it is ready at once; OPEN lets callers reach it as soon as it has been up for long enough,
        a ``share`` of them beside the run that takes the rest.
        """
        timeout_s = min(limit.remaining_s, service.ready_timeout_s + self.settle_s)
        log = service.probe.log if service.probe and service.probe.log else ""
        instances = self._names.template_unit(service.name).replace("@.", "@*.") if service.is_agent else ""
        answer = call(
            self._transport,
            verbs.WAIT_FOR_UNIT,
            WaitForUnit(
                state_dir=self._names.state,
                unit=instance.launch,
                timeout_s=timeout_s,
                settle_s=self.settle_s,
                log=log,
                not_worker_id=not_worker_id,
                # Only what has proved itself starts with the host; the one before it does no longer.
                enable=instances,
                gate=gate.value,
                pid=pid,
                share=share,
            ),
            timeout_s=timeout_s + _ANSWER_S,
        )
        if not answer["ready"]:
            raise self._not_ready(service, instance, answer)
        return observe.instance(self._names, service, answer["unit"])

    def _not_ready(self, service: Declared, instance: Instance, answer: ReadyAnswer) -> ServiceError:
        ended = ""
        if service.is_agent and answer["unit"]["enabled"] != "enabled":
            # It never served: systemd must not go on restarting it beside the one that does.
            self._end(instance, 0.0, kill=False)
            ended = "; it was stopped again"
        verb = "did not stay up" if answer["died"] else "is not ready in time"
        if service.oneshot:
            verb = "failed" if answer["died"] else "has not completed in time"
        raised = raised_in(answer["log"])
        why = answer["why"] + (f", {raised}" if raised else "")
        return ServiceError(
            f"{service.name} {verb} on {self._transport.name}: {why}{ended}",
            hint=service.missing_variable(answer["log"])
            or f"see `inv logs --only {service.name} --host {self._transport.name}`",
            log_tail=tuple(brief(line)[:500] for line in answer["log"][-_TAIL_LINES:]),
            data={
                "host": self._transport.name,
                "service": service.name,
                "unit": instance.launch,
                "restarts": answer["unit"]["restarts"],
                "raised": raised,
            },
        )

    def end(self, instance: Instance, limit: Deadline, force: StopForce) -> bool:
        if force is StopForce.KILL:
            gone = self._end(instance, max(limit.remaining_s, _KILLED_S), kill=True)["gone"]
            if not gone:
                raise ServiceError(
                    f"{instance.launch} can't be ended on {self._transport.name}",
                    hint="its processes hang in the kernel: look at the disk or network that they wait for",
                )
            return True
        patience_s = limit.remaining_s
        if instance.role is Role.AGENT and force is StopForce.STOP:
            # Others are killed by systemd after their TimeoutStopSec; an agent's exceeds its drain.
            patience_s = min(patience_s, _STOP_S)
        answer = self._end(
            instance,
            patience_s,
            kill=False,
            begin=force is StopForce.BEGIN,
            hand_over=force is StopForce.HAND_OVER,
        )
        if answer["gone"] or force in (StopForce.DRAIN, StopForce.BEGIN, StopForce.HAND_OVER):
            return bool(answer["gone"])
        if instance.role is Role.AGENT and (answer["health"] or {"calls": None}).get("calls") != 0:
            return False  # one came in at the last moment, or it can't say
        return bool(self._end(instance, max(limit.remaining_s, _KILLED_S), kill=True)["gone"])

    def _end(
        self,
        instance: Instance,
        timeout_s: float,
        *,
        kill: bool,
        begin: bool = False,
        hand_over: bool = False,
    ) -> EndAnswer:
        return call(
            self._transport,
            verbs.END_UNIT,
            EndUnit(
                state_dir=self._names.state,
                unit=instance.launch,
                kill=kill,
                begin=begin,
                timeout_s=timeout_s,
                again_s=instance.repeat_signal_s,
                hand_over=hand_over,
                takeover=self._takeover if hand_over else [],
                table=self._names.nft_table,
                ports=self._caller_ports if hand_over else [],
            ),
            timeout_s=timeout_s + _ANSWER_S,
        )

    def end_stray(self, stray: Stray, limit: Deadline) -> None:
        timeout_s = min(limit.remaining_s, _STOP_S)
        call(
            self._transport,
            verbs.END_PROCESS,
            EndProcess(state_dir=self._names.state, pid=stray.pid, start=stray.start, timeout_s=timeout_s),
            timeout_s=timeout_s + _ANSWER_S,
        )
