"""Counts what the monitor says. Labels have few values and none that could name a caller."""

from __future__ import annotations

import platform

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from voiceops import __version__
from voiceops.history.calls import CallTracker
from voiceops.metrics.endpoint import MetricsEndpoint
from voiceops.model.monitor_events import (
    AlertRaised,
    CheckSummary,
    Incident,
    MonitorEvent,
    ProbeCall,
    Repair,
    WebhookEvent,
)
from voiceops.model.states import ServiceState

ANSWER_BUCKETS_S = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
_CHECK_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class MetricsRecorder:
    """A ``ports.MonitorRecorder`` whose ``registry`` is what the endpoint shows."""

    def __init__(self, host: str) -> None:
        self.registry = CollectorRegistry()
        self._host = host
        self._endpoint: MetricsEndpoint | None = None
        self._tracker = CallTracker()
        self._open_incidents: dict[str, str] = {}
        """Incident to its cause."""
        build = self._gauge("build_info", "1, with the version as a label", "version", "python")
        build.labels(host, __version__, platform.python_version()).set(1)
        self._state = self._gauge(
            "service_state", "1 for the state that the service is in", "service", "state"
        )
        self._ok = self._gauge("check_ok", "1 while all is as it should be")
        self._checked_at = self._gauge("last_check_timestamp_seconds", "When the last check ended")
        self._check_s = self._histogram("check_duration_seconds", "Duration of checks", _CHECK_BUCKETS_S)
        self._workers = self._gauge("workers_registered", "Agents that are registered with LiveKit")
        self._in_progress = self._gauge("calls_in_progress", "Calls in progress")
        self._rooms = self._gauge("rooms", "Rooms by state", "state")
        self._stuck = self._gauge("rooms_stuck", "Rooms whose person has waited for longer than a join takes")
        self._repairs = self._counter("repairs", "Repairs by action and result", "action", "result")
        self._incidents = self._counter("incidents", "Incidents that began, by cause", "cause")
        self._open = self._gauge("incidents_open", "Incidents that go on, by cause", "cause")
        self._calls = self._counter("calls", "Calls that ended, by kind and outcome", "kind", "outcome")
        self._answer_s = self._histogram(
            "call_answer_seconds", "From the join to the agent's voice", ANSWER_BUCKETS_S, "kind"
        )
        self._probe = self._gauge("probe_success", "1 where the last probe call was answered")
        self._firing = self._gauge("alert_firing", "1 while an alert goes on", "alert")
        for outcome in ("answered", "unanswered", "dropped"):
            self._calls.labels(host, "caller", outcome)  # a rate needs the 0 before the first one
        self._answer_s.labels(host, "caller")

    def record(self, event: MonitorEvent) -> None:
        """Count one event."""
        if isinstance(event, CheckSummary):
            self._on_check(event)
        elif isinstance(event, Incident):
            self._on_incident(event)
        elif isinstance(event, Repair):
            self._repairs.labels(self._host, event.action, "ok" if event.ok else "failed").inc()
        elif isinstance(event, WebhookEvent):
            self._on_webhook(event)
        elif isinstance(event, ProbeCall):
            self._on_probe(event)
        elif isinstance(event, AlertRaised):
            self._firing.labels(self._host, event.alert).set(not event.resolved)

    def serve(self, address: str, port: int) -> None:
        """Show the metrics there until ``close()``; ``ConfigError`` where that address can't be used."""
        self._endpoint = MetricsEndpoint(self.registry, address=address, port=port)

    def close(self) -> None:
        """End the endpoint; safe to call again."""
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None

    def _on_check(self, event: CheckSummary) -> None:
        self._ok.labels(self._host).set(event.ok)
        self._checked_at.labels(self._host).set(event.at)
        self._check_s.labels(self._host).observe(event.took_s)
        for service, now in event.services.items():
            for one in ServiceState:
                self._state.labels(self._host, service, one.value).set(one.value == now)
        if event.call_count == 0:
            self._tracker.on_nobody(event.at)
        for gauge, value in ((self._workers, event.worker_count), (self._in_progress, event.call_count)):
            gauge.labels(self._host).set(float("nan") if value is None else value)
        rooms = event.rooms
        for state in ("in_call", "waiting", "agent_only", "empty", "unknown"):
            self._rooms.labels(self._host, state).set(
                float("nan") if rooms is None else getattr(rooms, state)
            )
        self._stuck.labels(self._host).set(float("nan") if rooms is None else rooms.stuck)

    def _on_incident(self, event: Incident) -> None:
        if event.ended_at is None and event.incident not in self._open_incidents:
            self._open_incidents[event.incident] = event.cause
            self._incidents.labels(self._host, event.cause).inc()
            self._open.labels(self._host, event.cause).inc()
        elif event.ended_at is not None and self._open_incidents.pop(event.incident, ""):
            self._open.labels(self._host, event.cause).dec()

    def _on_webhook(self, event: WebhookEvent) -> None:
        for call in self._tracker.on_webhook(event):
            if call.outcome is not None:
                self._calls.labels(self._host, call.kind, call.outcome).inc()
            elif call.answer_s is not None:
                self._answer_s.labels(self._host, call.kind).observe(call.answer_s)

    def _on_probe(self, event: ProbeCall) -> None:
        self._probe.labels(self._host).set(event.ok)
        self._calls.labels(self._host, "probe", "answered" if event.ok else "failed").inc()
        if event.ok and event.audio_s is not None:
            self._answer_s.labels(self._host, "probe").observe(event.audio_s)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"voiceops_{name}", text, ["host", *labels], registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"voiceops_{name}", text, ["host", *labels], registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"voiceops_{name}", text, ["host", *labels], buckets=buckets, registry=self.registry)
