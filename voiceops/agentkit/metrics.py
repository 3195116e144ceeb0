"""Prometheus metrics of a worker, in its main process; the jobs report through the hub."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from voiceops.agentkit import lifecycle

if TYPE_CHECKING:
    from voiceops.agentkit.cache.ipc import CallStep
    from voiceops.agentkit.cache.server import CacheHub
    from voiceops.agentkit.loglimit import LogLimiter
    from voiceops.agentkit.worker import Worker

_SECONDS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)


class Metrics:
    """``render()`` is what ``/metrics`` answers: ours, then livekit-agents' own."""

    def __init__(self, worker: Worker, cache: CacheHub, limiter: LogLimiter | None = None) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Live(worker, cache, limiter))
        self._pickups = Counter("voiceops_agent_pickups", "Jobs taken", registry=self.registry)
        self._pickup_s = Histogram(
            "voiceops_agent_pickup_seconds",
            "From the offer to being in the room",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._answer_s = Histogram(
            "voiceops_agent_answer_seconds",
            "From the offer to the agent's first word",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._ready_s = Histogram(
            "voiceops_agent_ready_seconds",
            "From the offer to listening",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._failures = Counter(
            "voiceops_agent_failures", "Calls that failed, by phase", ["phase"], registry=self.registry
        )
        self._ended = Counter("voiceops_agent_ended", "Calls that ended", registry=self.registry)
        self._blocked = Counter(
            "voiceops_agent_loop_blocked", "Blocked event loops of calls", registry=self.registry
        )

    def picked_up(self) -> None:
        """A job was handed to a process."""
        self._pickups.inc()

    def on_event(self, event: CallStep) -> None:
        """An event that a job reported."""
        step, total_s = event["step"], event["total_s"]
        if step == lifecycle.CONNECTED:
            self._pickup_s.observe(total_s)
        elif step == lifecycle.READY:
            self._ready_s.observe(total_s)
        elif step == lifecycle.ANSWERED:
            self._answer_s.observe(total_s)
        elif step == lifecycle.FAILED:
            self._failures.labels(phase=str(event["details"].get("phase", "unknown"))).inc()
        elif step == lifecycle.BLOCKED:
            self._blocked.inc()
        elif step == lifecycle.ENDED:
            self._ended.inc()

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)


class _Live(Collector):
    """Values that are read when somebody asks."""

    def __init__(self, worker: Worker, cache: CacheHub, limiter: LogLimiter | None) -> None:
        self._worker = worker
        self._cache = cache
        self._limiter = limiter

    def collect(self) -> Iterator[Metric]:
        worker = self._worker
        for name, text, value in (
            ("registered", "1 while registered with LiveKit", float(worker.registered)),
            ("draining", "1 while draining", float(worker.draining)),
            ("calls", "Calls in progress", float(worker.calls)),
            ("load", "Measured load, 0 to 1", worker.load),
        ):
            yield GaugeMetricFamily(f"voiceops_agent_{name}", text, value=value)
        if worker.max_jobs is not None:
            yield GaugeMetricFamily("voiceops_agent_max_calls", "MAX_CONCURRENT_JOBS", value=worker.max_jobs)
        yield CounterMetricFamily(
            "voiceops_agent_registrations", "Registrations with LiveKit", value=worker.connections
        )
        refused = CounterMetricFamily(
            "voiceops_agent_refused", "Offers refused, by reason", labels=["reason"]
        )
        refused.add_metric(["max_jobs"], worker.refused)
        refused.add_metric(["load"], worker.refused_for_load)
        yield refused
        if math.isfinite(worker.load_limit):
            yield GaugeMetricFamily(
                "voiceops_agent_load_limit", "Load from which calls are refused", value=worker.load_limit
            )
        if self._limiter is not None:
            yield CounterMetricFamily(
                "voiceops_agent_log_lines_dropped",
                "Log lines over the limit",
                value=self._limiter.dropped_total,
            )
        requests = CounterMetricFamily(
            "voiceops_agent_cache_requests", "Answers of the shared cache", labels=["function", "result"]
        )
        for function, counters in self._cache.counters():
            for result, count in vars(counters).items():
                requests.add_metric([function, result], count)
        yield requests
