"""Events of the monitor as Prometheus metrics."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client import generate_latest

from tests.unit.history.test_recorder import EVENTS, NOW
from voiceops.errors import ConfigError
from voiceops.metrics.endpoint import MetricsEndpoint
from voiceops.metrics.recorder import MetricsRecorder
from voiceops.model.monitor_events import (
    AlertRaised,
    CheckSummary,
    Incident,
    ProbeCall,
    RoomCounts,
    WebhookEvent,
)


def value(recorder: MetricsRecorder, name: str, **labels: str) -> float | None:
    return recorder.registry.get_sample_value(f"voiceops_{name}", {"host": "h", **labels})


def webhook(kind: str, at: float, sid: str, *, agent: bool = False) -> WebhookEvent:
    return WebhookEvent(
        at=at, host="h", delivery=f"{kind}{at}", kind=kind, room="r", participant_sid=sid, is_agent=agent
    )


def test_a_check_sets_states_rooms_and_workers() -> None:
    recorder = MetricsRecorder("h")
    rooms = RoomCounts(total=6, in_call=3, waiting=2, stuck=1, empty=1)
    recorder.record(
        CheckSummary(
            at=NOW, host="h", ok=False, took_s=0.2, services={"agent": "failed"}, worker_count=0, rooms=rooms
        )
    )

    assert value(recorder, "service_state", service="agent", state="failed") == 1
    assert value(recorder, "service_state", service="agent", state="ready") == 0
    assert [value(recorder, "rooms", state=one) for one in ("in_call", "waiting", "empty")] == [3, 2, 1]
    assert (value(recorder, "rooms_stuck"), value(recorder, "workers_registered")) == (1, 0)
    assert value(recorder, "check_ok") == 0


def test_what_a_check_does_not_know_is_no_number() -> None:
    recorder = MetricsRecorder("h")
    recorder.record(CheckSummary(at=NOW, host="h", ok=True, took_s=0.2, worker_count=3, call_count=2))
    recorder.record(CheckSummary(at=NOW, host="h", ok=False, took_s=0.2))

    for name in ("workers_registered", "calls_in_progress", "rooms_stuck"):
        known = value(recorder, name)
        assert known is not None
        assert known != known


def test_calls_are_counted_when_they_end_and_timed_when_the_agent_is_heard() -> None:
    recorder = MetricsRecorder("h")
    for event in (
        webhook("participant_joined", 10.0, "P"),
        webhook("track_published", 10.4, "A", agent=True),
    ):
        recorder.record(event)
    assert value(recorder, "call_answer_seconds_sum", kind="caller") == pytest.approx(0.4)
    assert value(recorder, "calls_total", kind="caller", outcome="answered") == 0
    recorder.record(webhook("participant_left", 60.0, "P"))
    assert value(recorder, "calls_total", kind="caller", outcome="answered") == 1
    assert value(recorder, "call_answer_seconds_count", kind="caller") == 1


def test_incidents_are_open_until_they_end_however_often_they_are_told() -> None:
    recorder = MetricsRecorder("h")
    begun = Incident(at=NOW, host="h", incident="i", cause="no-worker", began_at=NOW)
    ended = Incident(at=NOW, host="h", incident="i", cause="no-worker", began_at=NOW, ended_at=NOW + 5)
    for event in (begun, begun):
        recorder.record(event)
    assert value(recorder, "incidents_open", cause="no-worker") == 1
    for event in (ended, ended):
        recorder.record(event)
    assert value(recorder, "incidents_open", cause="no-worker") == 0
    assert value(recorder, "incidents_total", cause="no-worker") == 1


def test_probes_and_alerts_are_shown() -> None:
    recorder = MetricsRecorder("h")
    recorder.record(ProbeCall(at=NOW, host="h", ok=True, audio_s=0.5))
    recorder.record(AlertRaised(at=NOW, host="h", alert="no-worker"))
    assert (value(recorder, "probe_success"), value(recorder, "alert_firing", alert="no-worker")) == (1, 1)
    recorder.record(ProbeCall(at=NOW, host="h", ok=False, error="silent"))
    recorder.record(AlertRaised(at=NOW, host="h", alert="no-worker", resolved=True))
    assert (value(recorder, "probe_success"), value(recorder, "alert_firing", alert="no-worker")) == (0, 0)


def test_no_metric_names_a_caller() -> None:
    recorder = MetricsRecorder("h")
    for event in EVENTS:
        recorder.record(event)

    assert b"5551234" not in generate_latest(recorder.registry)


def test_the_endpoint_answers_until_it_is_closed_and_a_taken_port_is_a_mistake_of_the_inventory() -> None:
    recorder = MetricsRecorder("h")
    endpoint = MetricsEndpoint(recorder.registry, address="127.0.0.1", port=0)
    with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=5) as answer:
        assert b'voiceops_build_info{host="h"' in answer.read()
    with pytest.raises(ConfigError, match=r"at metrics\.port"):
        MetricsEndpoint(recorder.registry, address="127.0.0.1", port=endpoint.port)
    endpoint.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=5)
