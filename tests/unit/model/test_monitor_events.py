"""What the monitor says survives being stored."""

from __future__ import annotations

import typing

import msgspec

from tests.support.fakes.recorder import KeepingRecorder
from voiceops.model.monitor_events import CheckSummary, Incident, MonitorEvent, RoomCounts


def test_each_event_is_read_back_as_what_it_was() -> None:
    check = CheckSummary(
        at=1.0, host="web1", ok=False, took_s=0.1, services={"agent": "ready"}, rooms=RoomCounts(total=3)
    )
    incident = Incident(at=2.0, host="web1", incident="i-1", cause="service-missing", began_at=1.5)
    for event in (check, incident):
        assert msgspec.json.decode(msgspec.json.encode(event), type=MonitorEvent) == event


def test_the_tags_of_stored_events_stay() -> None:
    tags = {one.__struct_config__.tag for one in typing.get_args(MonitorEvent)}
    assert tags == {"check", "incident", "repair", "webhook", "probe", "alert"}


def test_a_recorder_gets_them_in_their_order() -> None:
    kept = KeepingRecorder()
    events = [CheckSummary(at=float(at), host="web1", ok=True, took_s=0.1) for at in range(3)]
    for event in events:
        kept.record(event)
    kept.close()
    assert kept.events == events
    assert kept.closed
