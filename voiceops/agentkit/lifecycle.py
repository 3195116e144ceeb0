"""What happens to a call: one log line and one event per step.

    call incoming -> call connected -> call data loaded -> call session started -> call ready
    -> call answered -> call ended -> worker ready for next

A step that goes wrong is ``call failed`` with its phase. Every line carries the call's id
(the LiveKit job id), the seconds since the previous step and since the offer; room and
participant names stand only under ``pii``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from voiceops.agentkit.cache import ipc
from voiceops.model import protocol

log = logging.getLogger(protocol.CALL_LOGGER)

INCOMING = "call incoming"
CONNECTED = "call connected"
DATA_LOADED = "call data loaded"
SESSION_STARTED = "call session started"
READY = protocol.CALL_READY
ANSWERED = "call answered"
RETURNED = "call returned"
BLOCKED = "call blocked"
FAILED = "call failed"
ENDED = protocol.CALL_ENDED
READY_FOR_NEXT = "worker ready for next"


@dataclass(frozen=True)
class CallEvent:
    """One step of one call."""

    step: str
    """One of the constants of this module."""
    call_id: str
    duration_s: float
    """Since the previous step."""
    total_s: float
    """Since the worker got the offer."""
    details: Mapping[str, object] = field(default_factory=dict)
    pii: Mapping[str, str] = field(default_factory=dict)


Listener = Callable[[CallEvent], None]
_listeners: list[Listener] = []


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call ``listener`` with each event of this process; returns what ends the subscription.

    Listeners run in the event loop between two steps of a call: they must not block. One
    that raises is logged and does not disturb the call.
    """
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


class Lifecycle:
    """The steps of one call."""

    def __init__(
        self,
        call_id: str,
        *,
        pii: Mapping[str, str],
        offered_s_ago: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.call_id = call_id
        self.pii = dict(pii)
        self._clock = clock
        self._began = clock() - max(0.0, offered_s_ago)
        self._last = self._began
        self._seen: set[str] = set()

    @property
    def total_s(self) -> float:
        return self._clock() - self._began

    def seen(self, step: str) -> bool:
        return step in self._seen

    def emit(self, step: str, *, level: int = logging.INFO, **details: object) -> CallEvent:
        """Log the step, tell the listeners and the worker's main process."""
        now = self._clock()
        event = CallEvent(
            step=step,
            call_id=self.call_id,
            duration_s=round(now - self._last, 4),
            total_s=round(now - self._began, 4),
            details=details,
            pii=dict(self.pii),
        )
        self._last = now
        self._seen.add(step)
        publish(event, level=level)
        return event

    def caller(self, message: str, participant_sid: str, *, present_s: float = 0.0) -> None:
        """Log that a person joined or left, by a name that LiveKit has made; it is no step of the call.

        ``present_s``: since when somebody who joins has been there, as far as it is known.
        """
        total_s = round(self.total_s, 4)
        extra: dict[str, object] = {
            "call_id": self.call_id,
            "total_s": total_s,
            "caller_sid": participant_sid,
        }
        log.info(message, extra=extra | {"present_s": round(present_s, 4), "pii": dict(self.pii)})


def publish(event: CallEvent, *, level: int = logging.INFO) -> None:
    """Log an event and hand it to the listeners and to the worker's main process."""
    extra: dict[str, object] = {
        "call_id": event.call_id,
        "duration_s": event.duration_s,
        "total_s": event.total_s,
    }
    log.log(level, event.step, extra=extra | dict(event.details) | {"pii": dict(event.pii)})
    ipc.report(
        {
            "step": event.step,
            "call_id": event.call_id,
            "duration_s": event.duration_s,
            "total_s": event.total_s,
            "details": {key: value for key, value in event.details.items() if _plain(value)},
        }
    )
    for listener in tuple(_listeners):
        try:
            listener(event)
        except Exception:
            log.exception("a listener for call events failed")


def _plain(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
