"""The systemd backend: services as units on a host, behind the same reconcile as plain processes.

The units are there already: ``deploy`` writes them. Each method is one program run on the host
(``voiceops/remote/onhost/services.py``), which looks, acts and waits there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voiceops.deadline import Deadline
from voiceops.errors import ServiceError, UnreachableError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.ports import Transport
from voiceops.remote.onhost import services as onhost
from voiceops.stack.backend import Force
from voiceops.stack.logs.cause import raised_in
from voiceops.stack.logs.files import brief
from voiceops.stack.model import Instance, Observed, Stray
from voiceops.stack.systemd import observe
from voiceops.systemd.names import Names
from voiceops.systemd.programs import isolated_python

_ANSWER_S = 30.0
"""What an answer may take beyond the wait that it is about."""
_LOOK_S = 60.0
_TAIL_LINES = 15
_STOP_S = 15.0
"""How long an agent without calls may take to end before it is killed."""
_KILLED_S = 5.0


class SystemdBackend:
    """Implements ``stack.backend.Backend`` for one project on one host."""

    def __init__(self, names: Names, transport: Transport, *, settle_s: float = 1.5) -> None:
        self._names = names
        self._transport = transport
        self._settle_s = settle_s
        """How long a unit has to stay up before it counts: a restart loop is active half of the time."""

    def observe(self, services: Sequence[Declared]) -> Mapping[str, Observed]:
        answer = self._ask("look", _LOOK_S, **observe.look_request(self._names, services))
        return observe.observed(self._names, services, answer)

    def start(self, service: Declared) -> Instance:
        instance = service.release if service.is_agent else ""
        unit = self._names.unit(service.name, instance)
        twins = (
            [self._names.release(instance), self._names.environment_file(service.name, instance)]
            if instance
            else []
        )
        answer = self._ask("start", _LOOK_S, unit=unit, instance=instance, twins=twins)
        return observe.instance(self._names, service, answer["unit"])

    def wait_ready(
        self, service: Declared, instance: Instance, limit: Deadline, *, not_worker_id: str = ""
    ) -> Instance:
        timeout_s = min(limit.remaining_s, service.ready_timeout_s + self._settle_s)
        log = service.probe.log if service.probe and service.probe.log else ""
        answer = self._ask(
            "wait",
            timeout_s,
            unit=instance.launch,
            timeout_s=timeout_s,
            settle_s=self._settle_s,
            log=log,
            not_worker_id=not_worker_id,
            # Only what has proved itself starts with the host; the one before it does no longer.
            enable=self._names.template_unit(service.name).replace("@.", "@*.") if service.is_agent else "",
        )
        if not answer["ready"]:
            raise self._not_ready(service, instance, answer)
        return observe.instance(self._names, service, answer["unit"])

    def _not_ready(self, service: Declared, instance: Instance, answer: Mapping[str, Any]) -> ServiceError:
        ended = ""
        if service.is_agent and answer["unit"]["enabled"] != "enabled":
            # It never served: systemd must not go on restarting it beside the one that does.
            self._end(instance, 0.0, kill=False)
            ended = "; it was stopped again"
        verb = "did not stay up" if answer["died"] else "is not ready in time"
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

    def end(self, instance: Instance, limit: Deadline, force: Force) -> bool:
        if force is Force.KILL:
            gone = self._end(instance, max(limit.remaining_s, _KILLED_S), kill=True)["gone"]
            if not gone:
                raise ServiceError(
                    f"{instance.launch} can't be ended on {self._transport.name}",
                    hint="its processes hang in the kernel: look at the disk or network that they wait for",
                )
            return True
        patience_s = limit.remaining_s
        if instance.role is Role.AGENT and force is Force.STOP:
            # Others are killed by systemd after their TimeoutStopSec; an agent's exceeds its drain.
            patience_s = min(patience_s, _STOP_S)
        answer = self._end(instance, patience_s, kill=False, begin=force is Force.BEGIN)
        if answer["gone"] or force in (Force.DRAIN, Force.BEGIN):
            return bool(answer["gone"])
        if instance.role is Role.AGENT and (answer["health"] or {"calls": None}).get("calls") != 0:
            return False  # one came in at the last moment, or it can't say
        return bool(self._end(instance, max(limit.remaining_s, _KILLED_S), kill=True)["gone"])

    def _end(
        self, instance: Instance, timeout_s: float, *, kill: bool, begin: bool = False
    ) -> Mapping[str, Any]:
        return self._ask(
            "end",
            timeout_s,
            unit=instance.launch,
            kill=kill,
            begin=begin,
            timeout_s=timeout_s,
            again_s=instance.repeat_signal_s,
        )

    def end_stray(self, stray: Stray, limit: Deadline) -> None:
        timeout_s = min(limit.remaining_s, _STOP_S)
        self._ask("end_stray", timeout_s, pid=stray.pid, start=stray.start, timeout_s=timeout_s)

    def _ask(self, verb: str, patience_s: float, **request: Any) -> Mapping[str, Any]:
        """One program run on the host."""
        program = Path(onhost.__file__).read_text()
        argv = isolated_python(program, json.dumps({"do": verb, **request}))
        ended = self._transport.run(argv, root=True, timeout_s=patience_s + _ANSWER_S)
        try:
            if ended.exit_code == 0:
                answer: dict[str, Any] = json.loads(ended.last_line)
                return answer
        except ValueError:
            pass  # cut off: told below, with what there is
        tail = ended.stderr.decode(errors="replace").splitlines()[-5:]
        missing = " (python3 is missing)" if ended.exit_code == 127 else ""
        raise UnreachableError(
            f"{self._transport.name}: looking at its units failed with exit {ended.exit_code}{missing}",
            hint=f"`inv setup --host {self._transport.name}` installs what is missing" if missing else None,
            log_tail=tuple(tail),
        )
