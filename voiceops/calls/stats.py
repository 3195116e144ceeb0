"""What a run of calls amounts to: percentiles, the exit code, whether the calling side was the bottleneck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from voiceops.model.calls import CallerLoad, CallPlan, CallResult, FailureKind

if TYPE_CHECKING:
    from voiceops.model.documents.doctor import CallDocument, CallTimes

MEASURES = {
    "connect_s": "connected",
    "agent_s": "agent joined",
    "ready_s": "agent ready",
    "audio_s": "first audio",
    "answer_s": "answer",
    "max_gap_s": "largest gap",
    "max_pause_s": "longest pause",
    "jitter_s": "jitter",
    "round_trip_s": "round trip",
}
IN_MILLISECONDS = frozenset({"max_gap_s", "max_pause_s", "jitter_s", "round_trip_s"})
PERCENTILES = (50, 90, 95, 99)
LAG_LIMIT_S = 0.05
LATE_LIMIT_S = 0.5
BUSY_MACHINE = 0.9
CALLERS_PART = 0.25
_NOBODY_ANSWERS = {FailureKind.NO_CONNECT, FailureKind.CREDENTIALS}


class CallReport(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run."""

    plan: CallPlan
    results: tuple[CallResult, ...]
    load: CallerLoad
    duration_s: float
    rooms_kept: tuple[str, ...] = ()
    """Rooms of ours that were not deleted, because somebody else was in them or nobody answered."""
    interrupted: bool = False
    """Ended by Ctrl-C before the plan was done: the results are those until then."""

    @property
    def ok(self) -> int:
        return sum(result.ok for result in self.results)

    @property
    def failed(self) -> int:
        return len(self.results) - self.ok

    @property
    def success(self) -> float:
        return self.ok / len(self.results) if self.results else 0.0

    @property
    def good_enough(self) -> bool:
        return self.success >= self.plan.expect_success

    @property
    def exit_code(self) -> int:
        """130 when interrupted, 5 when nothing ever got through to LiveKit, 1 when too few calls were good."""
        if self.interrupted:
            return 130
        if self.good_enough:
            return 0
        kinds = {result.failure.kind for result in self.results if result.failure is not None}
        return 5 if kinds and not self.ok and kinds <= _NOBODY_ANSWERS else 1

    def percentiles(self, percent: float) -> dict[str, float]:
        """Of each measure that any call reached, good calls or not."""
        found = {}
        for name in MEASURES:
            values = self.values(name)
            if values:
                found[name] = round(percentile(values, percent), 4)
        return found

    def _times(self, percent: float) -> CallTimes:
        return cast("CallTimes", self.percentiles(percent))

    def values(self, measure: str) -> list[float]:
        return [value for result in self.results if (value := getattr(result, measure)) is not None]

    @property
    def failures(self) -> dict[str, int]:
        """How many calls failed of what."""
        kinds = Counter(result.failure.kind.value for result in self.results if result.failure is not None)
        return dict(kinds.most_common())

    def as_json(self) -> CallDocument:
        """Return what ``inv call --json`` prints."""
        document: CallDocument = {
            "answered_count": self.ok,
            "failed_count": self.failed,
            "success": round(self.success, 4),
            "expect_success": self.plan.expect_success,
            "duration_s": round(self.duration_s, 3),
            "calls": [result.as_json() for result in self.results],
            "failure_counts": self.failures,
            "callers": {
                "process_count": self.load.processes,
                "crash_count": self.load.crash_count,
                "cpu_share": self.load.cpu_share,
                "machine_cpu": self.load.machine_cpu,
                "lag_p95_s": self.load.lag_p95_s,
                "starved": self.load.starved,
                "detail": self.load.detail,
            },
            "p50": self._times(50),
            "p90": self._times(90),
            "p95": self._times(95),
            "p99": self._times(99),
            "max": self._times(100),
            "interrupted": self.interrupted,
            "rooms_kept": list(self.rooms_kept),
        }
        if self.values("quality"):
            document["min_quality"] = min(self.values("quality"))
            document["max_loss"] = max(self.values("loss"))
        return document


def percentile(values: Sequence[float], percent: float) -> float:
    """Between the two nearest values, as most tools reckon it."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def until_interrupted(plan: CallPlan, results: Sequence[CallResult], duration_s: float) -> CallReport:
    """The report of calls that were placed before Ctrl-C; how busy the callers were is not known then."""
    load = weigh(processes=0, cpu_s=0.0, wall_s=duration_s, cores=1, machine=(), lags=())
    ordered = tuple(sorted(results, key=lambda result: result.id))
    return CallReport(plan=plan, results=ordered, load=load, duration_s=duration_s, interrupted=True)


def weigh(
    *,
    processes: int,
    cpu_s: float,
    wall_s: float,
    cores: int,
    machine: Sequence[float],
    lags: Sequence[float],
    late_s: float = 0.0,
    crashes: int = 0,
) -> CallerLoad:
    """Say how the callers fared. ``machine`` are shares 0 to 1 of all cores, ``lags`` seconds."""
    share = cpu_s / (wall_s * cores) if wall_s > 0 else 0.0
    busy = percentile(machine, 95) if machine else 0.0
    lag = percentile(lags, 95) if lags else 0.0
    detail = ""
    if lag > LAG_LIMIT_S:
        detail = f"the callers' event loops woke up {lag * 1000:.0f} ms late: the times contain that delay"
    elif busy >= BUSY_MACHINE and share >= CALLERS_PART:
        detail = (
            f"the machine was {busy:.0%} busy and the callers took {share:.0%} of it: "
            "they slowed down what they measure; call from another machine"
        )
    elif late_s > LATE_LIMIT_S:
        detail = f"calls began up to {late_s:.1f} s late, because every caller was busy: raise --concurrency"
    return CallerLoad(
        processes=processes,
        crash_count=crashes,
        cpu_share=round(share, 4),
        machine_cpu=round(busy, 4),
        lag_p95_s=round(lag, 4),
        starved=bool(detail),
        detail=detail,
    )
