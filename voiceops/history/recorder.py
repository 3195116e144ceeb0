"""Keeps what the monitor says, in a thread of its own: a slow, full or absent disk never stops the monitor."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from voiceops.errors import VoiceopsError
from voiceops.history.calls import CallTracker, LoggedCallStep
from voiceops.history.recorder_thread import RecorderThread
from voiceops.history.room_incidents import RoomIncidents
from voiceops.history.store import HistoryStore
from voiceops.model.findings import steps_for_host
from voiceops.model.history import (
    CallRecord,
    CheckRecord,
    HistoryRecord,
    IncidentRecord,
    RepairRecord,
    record_id,
)
from voiceops.model.monitor_events import (
    CheckSummary,
    Incident,
    MonitorEvent,
    ProbeCall,
    Repair,
    WebhookEvent,
)

log = logging.getLogger("voiceops.history")

MOST_HELD = 20_000
"""So many records wait while they can't be written; then the oldest go."""
BATCH = 500
FLUSH_S = 0.5
RETRY_S = 5.0
PRUNE_EVERY_S = 3600.0
BEFORE_FIRST_CHECK_S = 60.0
_DAY_S = 86_400.0


class HistoryRecorder(RecorderThread):
    """A ``ports.MonitorRecorder`` that writes to a store; what is held in the end is written."""

    def __init__(
        self,
        store: HistoryStore,
        *,
        keep_days: float,
        caller_key: bytes | None = None,
        read_steps: Callable[[float], Sequence[LoggedCallStep]] = lambda since: (),
        server: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("voiceops_history", most_events=MOST_HELD)
        self._store = store
        self._keep_s = keep_days * _DAY_S
        self._caller_key = caller_key
        """With one, each call has a keyed hash of its caller's identity."""
        self._server = server
        """The name of the server that it runs on, for commands that people type elsewhere."""
        self._read_steps = read_steps
        """What the logs of agents say that is new, from a point in time on; asked at each check."""
        self._clock = clock
        self._steps_since = clock()
        self._tracker = CallTracker()
        self._room_incidents = RoomIncidents()
        self._held: deque[HistoryRecord] = deque(maxlen=MOST_HELD)
        self._failing = False
        self._adopted = False
        self._prune_at = 0.0
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(PRUNE_EVERY_S)
            # Records of the same moment become one transaction.
            self._closing.wait(RETRY_S if self._failing else FLUSH_S)
            self._wake.clear()
            self._work()
            if self._held:
                self._wake.set()
        self._work()
        self._store.close()

    def _work(self) -> None:
        try:
            if not self._adopted:
                since = self._clock() - _DAY_S
                self._tracker.adopt(
                    call
                    for call in self._store.read(CallRecord, since=since)
                    if call.outcome is None and call.kind == "caller"
                )
                self._room_incidents.adopt(self._store.read(IncidentRecord, since=since))
                self._steps_since = self._last_check_at()
                self._adopted = True
            self._convert()
            while self._held:
                batch = list(self._held)[:BATCH]
                self._store.write(batch)
                for _ in batch:
                    self._held.popleft()
            if self._clock() >= self._prune_at:
                self._prune_at = self._clock() + PRUNE_EVERY_S
                self._store.prune(self._clock() - self._keep_s)
        except VoiceopsError as error:
            if not self._failing:
                log.error("the history can't be written", extra={"error": error.message, "hint": error.hint})
            self._failing = True
            self._convert()
            return
        if self._failing:
            log.info("the history is written again", extra={"held": len(self._held)})
        self._failing = False

    def _last_check_at(self) -> float:
        """Since when an earlier monitor has read no log; where there was none, since a little before this one."""
        checks = self._store.read(CheckRecord, since=self._clock() - _DAY_S, limit=1)
        return checks[-1].at if checks else self._steps_since - BEFORE_FIRST_CHECK_S

    def _convert(self) -> None:
        while self._events:
            self._held.extend(map(self._named, self.records_of(self._events.popleft())))

    def _named(self, record: HistoryRecord) -> HistoryRecord:
        if not self._server or not isinstance(record, IncidentRecord):
            return record
        return msgspec.structs.replace(record, fix=steps_for_host(record.fix, self._server))

    def records_of(self, event: MonitorEvent) -> Sequence[HistoryRecord]:
        """What of an event is kept; names of rooms are taken out of sentences."""
        if isinstance(event, WebhookEvent):
            return self._tracker.on_webhook(event, self._hashed(event.identity))
        if isinstance(event, CheckSummary):
            steps = self._read_steps(self._steps_since)
            told = [record for step in steps for record in self._tracker.on_step(step)]
            ended = self._tracker.on_nobody(event.at) if event.call_count == 0 else []
            return [*told, *ended, *self._room_incidents.on_check(event), _check_record(event)]
        if isinstance(event, Incident):
            return [_incident_record(event)]
        if isinstance(event, Repair):
            record = _repair_record(event)
            begun, incident = self._room_incidents.on_repair(event, record.reason)
            return [*([begun] if begun else []), msgspec.structs.replace(record, incident=incident)]
        if isinstance(event, ProbeCall):
            return [_probe_record(event)]
        return []

    def _hashed(self, identity: str) -> str | None:
        if not self._caller_key or not identity:
            return None
        return hmac.new(self._caller_key, identity.encode(), hashlib.sha256).hexdigest()[:16]


def caller_key(api_secret: str) -> bytes:
    """The key of the hashes of callers: who has the database alone can't try identities against them."""
    return hmac.new(api_secret.encode(), b"voiceops history callers", hashlib.sha256).digest()


def _without(room: str, text: str) -> str:
    return text.replace(room, "a room") if room else text


def _check_record(event: CheckSummary) -> CheckRecord:
    rooms = event.rooms
    return CheckRecord(
        id=record_id("check", event.host, event.at),
        host=event.host,
        at=event.at,
        ok=event.ok,
        took_s=event.took_s,
        worker_count=event.worker_count,
        call_count=event.call_count,
        room_count=None if rooms is None else rooms.total,
        waiting_count=None if rooms is None else rooms.waiting,
        stuck_count=None if rooms is None else rooms.stuck,
    )


def _incident_record(event: Incident) -> IncidentRecord:
    return IncidentRecord(
        id=event.incident,
        host=event.host,
        cause=event.cause,
        subject=event.subject,
        sentence=_without(event.room, event.sentence),
        fix=_without(event.room, event.fix),
        began_at=event.began_at,
        ended_at=event.ended_at,
    )


def _repair_record(event: Repair) -> RepairRecord:
    return RepairRecord(
        id=record_id("repair", event.host, event.at, event.action, event.subject, event.room, event.attempt),
        host=event.host,
        at=event.at,
        action=event.action,
        subject=event.subject,
        reason=_without(event.room, event.reason),
        incident=event.incident,
        ok=event.ok,
        error=_without(event.room, event.error),
        took_s=event.took_s,
        attempt=event.attempt,
    )


def _probe_record(event: ProbeCall) -> CallRecord:
    return CallRecord(
        id=record_id("probe", event.host, event.at),
        host=event.host,
        kind="probe",
        started_at=event.at,
        ended_at=event.at + (event.audio_s or 0.0),
        answer_s=event.audio_s,
        outcome="answered" if event.ok else "failed",
        detail=event.error,
    )
