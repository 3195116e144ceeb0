"""What `inv status` tells of each host: services, what they take, rooms and calls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from voiceops.cli.command import CommandRun
from voiceops.commands.hosts import stack_on
from voiceops.fleet.run import HostResult, run_on
from voiceops.model.roles import Role
from voiceops.model.settings import Host
from voiceops.model.states import ServiceState
from voiceops.stack import operations
from voiceops.stack.model import Instance, Observed, ServiceVerdict, Usage
from voiceops.stack.stack import Stack
from voiceops.util.times import iso_time

if TYPE_CHECKING:
    from voiceops.model.documents.stack import DrainingRun, LiveCallEntry, StatusHost, StatusService
    from voiceops.rooms.live_calls import LiveCall

_USAGE_S = 0.3
"""At least so long the CPU time of a service is watched."""


def status_of(run: CommandRun) -> dict[str, HostResult[StatusHost]]:
    """What `inv status --json` prints for each host."""

    def status_on(host: Host) -> StatusHost:
        with stack_on(run, host) as stack:
            return _status(host, stack)

    return run_on([run.project.hosts], status_on)


def _status(host: Host, stack: Stack) -> StatusHost:
    began = time.monotonic()
    first = stack.backend.observe(stack.outline)
    runs = [one for seen in first.values() for one in seen.instances]
    before = {one.launch: stack.usage(one) for one in runs}
    ready = any(one.role is Role.SERVER and one.state is ServiceState.READY for one in runs)
    rooms = stack.live_rooms() if ready else None
    time.sleep(max(0.0, began + _USAGE_S - time.monotonic()))
    observed = stack.backend.observe(stack.outline)
    passed_s = time.monotonic() - began
    services: dict[str, StatusService] = {}
    for name, verdict in operations.verdicts(stack, observed).items():
        one = verdict.instance
        now = stack.usage(one) if one else None
        share = cpu_share(before.get(one.launch) if one else None, now, passed_s)
        services[name] = service_entry(verdict, observed.get(name), now, share)
    release = next((service["release"] for service in services.values() if service["release"]), "")
    server = any(service.role is Role.SERVER for service in stack.outline)
    return {
        "ok": True,
        "services": services,
        "release": release,
        "call_count": sum_known([service["call_count"] for service in services.values()]),
        "room_count": rooms.room_count if rooms else None,
        "url": host.settings.livekit.url if server else "",
        "live_calls": [_live_call(call) for call in rooms.calls] if rooms else [],
    }


def service_entry(
    verdict: ServiceVerdict, observed: Observed | None, used: Usage | None, share: float | None
) -> StatusService:
    """One service as the document has it."""
    one = verdict.instance
    return {
        "state": verdict.state,
        "pids": list(verdict.pids),
        "detail": verdict.detail,
        "uptime_s": round(one.age_s, 1) if one and one.pid else None,
        "restart_count": one.restart_count if one else 0,
        "cpu_share": share,
        "memory_bytes": used.memory_bytes if used else None,
        "release": one.release if one else "",
        "call_count": sum_known([each.calls for each in observed.instances]) if observed else 0,
        "draining": [each.pid for each in observed.draining] if observed else [],
        "draining_runs": _draining_runs(observed.draining) if observed else [],
    }


def _draining_runs(runs: Sequence[Instance]) -> list[DrainingRun]:
    return [
        {"pid": one.pid, "release": one.release, "uptime_s": round(one.age_s, 1), "call_count": one.calls}
        for one in sorted(runs, key=lambda one: one.age_s, reverse=True)
    ]


def cpu_share(before: Usage | None, now: Usage | None, passed_s: float) -> float | None:
    """The share of one CPU between two samples of a run; None where one of them is missing."""
    if before is None or now is None:
        return None
    return round(max(0.0, now.cpu_s - before.cpu_s) / passed_s, 3)


def _live_call(call: LiveCall) -> LiveCallEntry:
    known = call.started_at > 0
    return {
        "room": call.room,
        "joined_at": iso_time(call.started_at) if known else None,
        "age_s": round(max(0.0, time.time() - call.started_at), 1) if known else None,
        "persons": list(call.persons),
        "agent_identities": list(call.agents),
    }


def sum_known(counts: Sequence[int | None]) -> int | None:
    """None when one of them is unknown: an agent that does not answer may have calls."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
