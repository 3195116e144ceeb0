"""What the operations on a stack have in common: results, progress, work side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voiceops.errors import CallsInProgressError, VoiceopsError
from voiceops.model.states import ServiceState
from voiceops.util.words import counted

if TYPE_CHECKING:
    from voiceops.model.documents.common import ServiceEntry

Progress = Callable[[str, str, str], None]
"""(service, state, words): what is going on, for people."""


def silent(service: str, state: str, words: str) -> None:
    """Progress for nobody."""


@dataclass(slots=True)
class ServiceResult:
    """What became of one service."""

    state: ServiceState
    changed: bool = False
    pid: int = 0
    ready_s: float | None = None
    detail: str = ""
    action: str = "keep"
    warning: str = ""
    """Why it may not do its job, although it is ready."""
    error: VoiceopsError | None = None
    draining: list[int] = field(default_factory=list)

    def as_json(self) -> ServiceEntry:
        """Return the service as documents have it."""
        entry: ServiceEntry = {
            "state": self.state,
            "changed": self.changed,
            "action": self.action,
            "pids": [self.pid] if self.pid else [],
            "draining": self.draining,
            "ready_s": None if self.ready_s is None else round(self.ready_s, 3),
            "detail": self.detail,
        }
        if self.warning:
            entry["warning"] = self.warning
        if self.error:
            entry["error"] = self.error.as_json()
        return entry


Results = dict[str, ServiceResult]


def calls_error(
    rooms: Sequence[str], what: str, *, of_strays: bool = False, hint: str = ""
) -> CallsInProgressError:
    """Names the rooms of the calls in the way, as data and for the terminal."""
    count = counted(len(rooms), "call")
    return CallsInProgressError(
        f"{count} in progress: {what}",
        hint=hint or "give --yes to drop them"
        if of_strays or hint
        else "wait for them with `inv stop --drain 600`, or give --yes to drop them",
        # A room name can identify a caller: it is shown where somebody looks, not in logs.
        log_tail=tuple(f"room {room}" for room in rooms),
        data={"rooms": list(rooms)},
    )


def side_by_side(jobs: Sequence[Callable[[], None]]) -> None:
    """Run all of them at once and raise the first error, when all have ended.

    The threads are daemons: Ctrl-C ends the command at once, and what it has started is
    found again by the next one.
    """
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            errors.append(error)

    if len(jobs) == 1:
        jobs[0]()
        return
    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
