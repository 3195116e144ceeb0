"""A recorder that keeps what the monitor says in memory."""

from __future__ import annotations

from voiceops.model.monitor_events import MonitorEvent
from voiceops.ports import MonitorRecorder


class KeepingRecorder(MonitorRecorder):
    """Implements ``ports.MonitorRecorder``."""

    def __init__(self) -> None:
        self.events: list[MonitorEvent] = []
        self.closed = False

    def record(self, event: MonitorEvent) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed = True
