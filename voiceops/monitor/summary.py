"""What one check comes to, as a record and as a line of the log."""

from __future__ import annotations

import time
from dataclasses import dataclass

from voiceops.adapters.process import processes
from voiceops.model.monitor_events import CheckSummary, RoomCounts
from voiceops.model.states import ServiceState
from voiceops.monitor.decide import Moment
from voiceops.monitor.local_stack import StackObservation


@dataclass(slots=True)
class WorkCounters:
    """Since the monitor began."""

    checks: int = 0
    repairs: int = 0
    failed: int = 0


def moment_now() -> Moment:
    """Return the time on both clocks."""
    return Moment(boot_s=processes.boot_clock(), epoch_s=time.time())


def check_summary(
    host: str,
    seen: StackObservation,
    rooms: RoomCounts | None,
    *,
    well: bool,
    began: float,
    held_by: str,
    probe_ok: bool | None,
) -> CheckSummary:
    """Return the record of a check that began then, by the monotonic clock. ``well``: all but the services is."""
    agents = [one for one in seen.agents if one.state is ServiceState.READY]
    return CheckSummary(
        at=time.time(),
        host=host,
        ok=well and all(one.state.ok or not one.wanted for one in seen.services),
        took_s=round(time.monotonic() - began, 4),
        services={one.name: str(one.state) for one in seen.services},
        worker_count=len(agents),
        call_count=None if rooms is None else rooms.in_call + rooms.waiting,
        rooms=rooms,
        held_by=held_by,
        probe_ok=probe_ok,
    )


def summary_line(summary: CheckSummary, done: WorkCounters) -> str:
    """Return what the log says now and then."""
    states = ", ".join(f"{name} {state}" for name, state in summary.services.items())
    rooms = summary.rooms
    seen = "unknown" if rooms is None else f"{rooms.total} ({rooms.in_call} in a call)"
    return (
        f"{done.checks} checks: {states or 'no services'}; rooms: {seen}; "
        f"{done.repairs} repairs, {done.failed} failed"
    )
