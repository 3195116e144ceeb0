"""What the monitor says reaches the store, and nothing that happens to the store reaches the monitor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from voiceops.history.recorder import HistoryRecorder, caller_key
from voiceops.history.schema import MIGRATIONS
from voiceops.history.store import HistoryStore
from voiceops.model.history import CallRecord, CheckRecord, IncidentRecord, RepairRecord
from voiceops.model.monitor_events import (
    CheckSummary,
    Incident,
    MonitorEvent,
    ProbeCall,
    Repair,
    RoomCounts,
    WebhookEvent,
)

ROOM = "alice-5551234"
NOW = 1_000_000.0
EVENTS: tuple[MonitorEvent, ...] = (
    CheckSummary(at=NOW, host="h", ok=True, took_s=0.1, call_count=1, rooms=RoomCounts(total=3, stuck=1)),
    Incident(
        at=NOW, host="h", incident="i1", cause="no-worker", room=ROOM, sentence=f"{ROOM} waits", began_at=NOW
    ),
    Repair(at=NOW, host="h", action="dispatch", room=ROOM, reason=f"lost job in {ROOM}", incident="i1"),
    WebhookEvent(
        at=NOW,
        host="h",
        delivery="d1",
        kind="participant_joined",
        room=ROOM,
        participant_sid="P",
        identity="+4915551234",
    ),
    ProbeCall(at=NOW, host="h", ok=False, error="no-agent"),
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'history.db'}"


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_each_event_becomes_its_record(url: str) -> None:
    recorder = HistoryRecorder(HistoryStore(url), keep_days=1.0, clock=lambda: NOW)
    for event in EVENTS:
        recorder.record(event)
    recorder.close()
    recorder.close()

    store = HistoryStore(url)
    (check,) = store.read(CheckRecord)
    assert (check.room_count, check.stuck_count, check.call_count) == (3, 1, 1)
    assert [one.cause for one in store.read(IncidentRecord)] == ["no-worker"]
    assert [one.action for one in store.read(RepairRecord)] == ["dispatch"]
    assert {(one.kind, one.outcome) for one in store.read(CallRecord)} == {
        ("caller", None),
        ("probe", "failed"),
    }


@pytest.mark.parametrize("key", [None, caller_key("secret")])
def test_nothing_that_is_stored_names_a_caller(url: str, tmp_path: Path, key: bytes | None) -> None:
    recorder = HistoryRecorder(HistoryStore(url), keep_days=1.0, caller_key=key, clock=lambda: NOW)
    for event in EVENTS:
        recorder.record(event)
    recorder.close()

    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"alice" not in stored
    assert b"5551234" not in stored
    hashes = {one.caller for one in HistoryStore(url).read(CallRecord) if one.kind == "caller"}
    assert all((one is None) == (key is None) for one in hashes)
    assert key is None or hashes == {
        one.caller
        for one in HistoryRecorder(HistoryStore(url), keep_days=1.0, caller_key=key).records_of(EVENTS[3])
        if isinstance(one, CallRecord)
    }


def test_while_it_cannot_be_written_events_wait_and_are_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceops.history.recorder.RETRY_S", 0.05)
    place = tmp_path / "state"
    place.write_text("a file where the folder should be")
    url = f"sqlite:///{place / 'history.db'}"
    with caplog.at_level(logging.INFO, "voiceops.history"):
        recorder = HistoryRecorder(HistoryStore(url), keep_days=1.0, clock=lambda: NOW)
        began = time.monotonic()
        for event in EVENTS:
            recorder.record(event)
        assert time.monotonic() - began < 0.1
        until(lambda: "the history can't be written" in caplog.messages)
        place.unlink()
        until(lambda: bool(HistoryStore(url).read(CheckRecord)))
        recorder.close()

    assert caplog.messages.count("the history can't be written") == 1
    assert len(HistoryStore(url).read(CallRecord)) == 2


def test_a_newer_schema_is_left_alone_and_told_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    HistoryStore(url, migrations=(*MIGRATIONS, ("ALTER TABLE calls ADD COLUMN room TEXT",))).write(())
    recorder = HistoryRecorder(HistoryStore(url), keep_days=1.0, clock=lambda: NOW)
    recorder.record(EVENTS[0])
    recorder.close()

    assert caplog.messages == ["the history can't be written"]
    assert "schema 2" in caplog.records[0].__dict__["error"]


@pytest.mark.parametrize(
    ("server", "fix"),
    [("", "inv why && inv recover"), ("web1", "inv why --host web1 && inv recover --host web1")],
)
def test_on_a_server_the_fix_of_an_incident_names_the_host(url: str, server: str, fix: str) -> None:
    recorder = HistoryRecorder(HistoryStore(url), keep_days=1.0, server=server, clock=lambda: NOW)
    (incident,) = [one for one in EVENTS if isinstance(one, Incident)]
    recorder.record(msgspec.structs.replace(incident, fix="inv why && inv recover"))
    recorder.close()
    assert [one.fix for one in HistoryStore(url).read(IncidentRecord)] == [fix]


def test_what_is_older_than_keep_days_goes(url: str) -> None:
    HistoryStore(url).write(
        [CallRecord(id="old", host="h", kind="caller", started_at=NOW - 90_000, outcome="answered")]
    )
    recorder = HistoryRecorder(HistoryStore(url), keep_days=1.0, clock=lambda: NOW)
    recorder.record(EVENTS[0])
    recorder.close()

    assert HistoryStore(url).read(CallRecord) == []


def test_an_earlier_monitors_open_call_is_ended(url: str) -> None:
    for event in (EVENTS[3], CheckSummary(at=NOW + 60, host="h", ok=True, took_s=0.1, call_count=0)):
        recorder = HistoryRecorder(HistoryStore(url), keep_days=1.0, clock=lambda: NOW)
        recorder.record(event)
        recorder.close()

    (call,) = HistoryStore(url).read(CallRecord)
    assert (call.outcome, call.ended_at) == ("unanswered", NOW + 60)
