"""What recorders of the monitor's events share: they take an event at once, and work on it in a thread of their own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque

from voiceops.model.monitor_events import MonitorEvent

_CLOSE_WITHIN_S = 2.0


class RecorderThread(ABC):
    """A ``ports.MonitorRecorder``; whoever makes one of a subclass starts ``_thread`` once all is set up."""

    def __init__(self, name: str, *, most_events: int) -> None:
        """``most_events``: so many wait for the thread; then the oldest go."""
        self._events: deque[MonitorEvent] = deque(maxlen=most_events)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def record(self, event: MonitorEvent) -> None:
        """Take in one event; returns at once."""
        self._events.append(event)
        self._wake.set()

    def close(self) -> None:
        """End within 2 s, whatever is still to be done; safe to call again."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout=_CLOSE_WITHIN_S)

    @abstractmethod
    def _run(self) -> None:
        """Work on events until ``_closing``."""
