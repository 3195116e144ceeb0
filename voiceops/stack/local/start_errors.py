"""Why a service of this machine did not get ready, with the end of its log."""

from __future__ import annotations

from pathlib import Path

from voiceops.deadline import Deadline
from voiceops.errors import ServiceError
from voiceops.kinds.model import Declared
from voiceops.stack.local.oneshot import OneshotResult
from voiceops.stack.local.records import LaunchRecord
from voiceops.stack.logs.cause import raised_by
from voiceops.stack.logs.files import last_lines, raw_lines
from voiceops.stack.model import Instance


def ended_early(service: Declared, record: LaunchRecord, status: int | None, root: Path) -> ServiceError:
    """Return the error for a run that has ended; ``status`` None: it is not known how."""
    how = "" if status is None else f" (signal {-status})" if status < 0 else f" (exit {status})"
    tail = last_lines(Path(record.log), record.log_offset)
    raised = raised_by(record.pid, raw_lines(Path(record.log), record.log_offset), root)
    due = "completed" if service.oneshot else "ready"
    return ServiceError(
        f"{service.name} ended before it was {due}{how}" + (f": {raised}" if raised else ""),
        hint=service.missing_variable(tail)
        or (
            f"correct that, then `inv start` again; `inv logs --only {service.name}` has all of it"
            if raised
            else ""
        )
        or f"see `inv logs --only {service.name}`; then `inv start` again",
        log_tail=tail,
        data={"service": service.name, "exit_status": status, "raised": raised},
    )


def oneshot_failed(service: Declared, record: LaunchRecord, result: OneshotResult) -> ServiceError:
    """Return the error for a one-shot that has ended with another code than 0."""
    tail = last_lines(Path(record.log), record.log_offset)
    return ServiceError(
        f"{service.name} failed: {result}",
        hint=service.missing_variable(tail)
        or f"see `inv logs --only {service.name}`; the next `inv start` runs it again",
        log_tail=tail,
        data={"service": service.name, "exit_status": result.exit_status},
    )


def not_ready(service: Declared, record: LaunchRecord, seen: Instance, own: Deadline) -> ServiceError:
    """Return the error for a run that is still there, and not as it should be."""
    due = "completed" if service.oneshot else "ready"
    return ServiceError(
        f"{service.name} is not {due} after {own.timeout_s:.0f} s: {seen.detail or seen.state}",
        hint=f"it still runs (pid {seen.pid}); see `inv logs --only {service.name}`",
        log_tail=last_lines(Path(record.log), record.log_offset),
        data={"service": service.name, "pid": seen.pid},
    )
