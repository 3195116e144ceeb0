"""Incidents of rooms: one for each, begun by a dispatch, over when nobody waits, without the room's name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from voiceops.history.recorder import HistoryRecorder
from voiceops.history.room_incidents import CAUSE, RoomIncidents
from voiceops.history.store import HistoryStore
from voiceops.model.history import IncidentRecord, RepairRecord
from voiceops.model.monitor_events import CheckSummary, Repair, RoomCounts

DISPATCH = Repair(at=10.0, host="web1", action="dispatch", room="alice-1", reason="alice-1 waits for 29 s")


def check(at: float, rooms: RoomCounts | None) -> CheckSummary:
    return CheckSummary(at=at, host="web1", ok=True, took_s=0.1, rooms=rooms)


def test_a_dispatch_begins_an_incident_and_a_check_at_which_nobody_waits_ends_it() -> None:
    incidents = RoomIncidents()
    begun, named = incidents.on_repair(DISPATCH, "a room waits for 29 s")
    assert begun is not None
    assert (begun.cause, begun.sentence, begun.began_at, begun.id) == (
        CAUSE,
        "a room waits for 29 s",
        10.0,
        named,
    )
    assert incidents.on_check(check(11.0, RoomCounts(total=1, waiting=1))) == []
    assert incidents.on_check(check(12.0, None)) == []  # what is not known is not over
    (ended,) = incidents.on_check(check(13.0, RoomCounts(total=1, in_call=1)))
    assert (ended.id, ended.ended_at) == (begun.id, 13.0)
    assert incidents.on_check(check(14.0, RoomCounts())) == []


def test_each_room_has_its_own_and_a_second_dispatch_belongs_to_it() -> None:
    incidents = RoomIncidents()
    first, named = incidents.on_repair(DISPATCH, "")
    again, same = incidents.on_repair(msgspec.structs.replace(DISPATCH, at=20.0), "")
    other, another = incidents.on_repair(msgspec.structs.replace(DISPATCH, room="alice-2"), "")
    assert (again, same) == (None, named)
    assert first is not None
    assert other is not None
    assert another not in ("", named)


def test_other_repairs_begin_none() -> None:
    incidents = RoomIncidents()
    for action, room in (("delete-room", "r"), ("remove", "r"), ("start", "")):
        repair = msgspec.structs.replace(DISPATCH, action=action, room=room, incident="service")
        assert incidents.on_repair(repair, "") == (None, "service")


def test_the_next_monitor_ends_what_the_one_before_it_has_begun(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    recorder = HistoryRecorder(HistoryStore(url), keep_days=1.0, clock=lambda: 10.0)
    recorder.record(DISPATCH)
    recorder.close()
    store = HistoryStore(url)
    (begun,), (repair,) = store.read(IncidentRecord), store.read(RepairRecord)
    assert begun.ended_at is None
    assert repair.incident == begun.id
    assert "alice" not in f"{begun}{repair}"
    successor = HistoryRecorder(HistoryStore(url), keep_days=1.0, clock=lambda: 20.0)
    successor.record(check(20.0, RoomCounts(total=1, in_call=1)))
    successor.close()
    (ended,) = store.read(IncidentRecord)
    assert (ended.id, ended.ended_at) == (begun.id, 20.0)
