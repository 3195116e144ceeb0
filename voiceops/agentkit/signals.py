"""Signals of a worker: the first one asks for a drain, wherever the process stands.

livekit-agents installs its handlers 1.4 s after exec, and a second signal there ends the
process and its calls at once. Here the handler stands within milliseconds, and a
repeated SIGTERM changes nothing: only a second Ctrl-C in a terminal ends live calls.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether somebody asked this process to stop, and whom to tell."""

    def __init__(self) -> None:
        self.requested = False
        self._interrupts = 0
        self._listener: Callable[[], None] | None = None

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` (from a signal handler) at the request, or now if it was made."""
        self._listener = listener
        if self.requested:
            listener()

    def handle(self, number: int, _frame: FrameType | None = None) -> None:
        """The signal handler."""
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                os._exit(130)
        first, self.requested = not self.requested, True
        if self._listener is not None:
            self._listener()
        elif first:
            # Nothing runs yet: leave, out of whatever is being imported. Should the
            # code there swallow it, `requested` is checked before anything starts.
            raise SystemExit(0)


def install() -> StopRequest:
    """Install the handlers; call it before anything that takes time."""
    stop = StopRequest()
    for number in SIGNALS:
        signal.signal(number, stop.handle)
    return stop
