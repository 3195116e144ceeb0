"""How many calls at once a host carries: which number is tried next, what counts as carried, what gave in first.

All of it is pure; ``commands/capacity.py`` places the calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from voiceops.calls.stats import CallReport, percentile
from voiceops.model.calls import FailureKind
from voiceops.util.words import counted

if TYPE_CHECKING:
    from voiceops.model.documents.doctor import CapacityLimit, CapacityStep

ANSWER_LIMIT_S = 2.0
"""From dialling to hearing the agent, 95th percentile."""
GAP_LIMIT_S = 0.1
FULL_CPU = 0.9
LEAST_MEMORY = 0.1
"""Of all memory, which stays available: below that a step is ended before it hurts the host."""
_LEAD = 2
"""So many tries more have to speak for a verdict than against it where the search ends."""
_LEAST_FAILED = 3
"""Tries of the number that is too much: a moment of other work may outlast two."""
_MOST_TRIES = 5
"""Of one number; the majority counts then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """The host in one moment of a step."""

    cpu_share: float = 0.0
    memory_available: float = 1.0
    """Share of all memory."""
    load: float | None = None
    """The highest that an agent reports to LiveKit."""
    load_limit: float | None = None
    over_load: bool = False
    """An agent takes no more calls for its load."""
    at_max_jobs: bool = False
    refused_for_load: int = 0
    """Calls that agents have refused since they began."""
    own_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityTrial:
    """One number of calls at once, and how it went: one try, or by ``judged`` all tries of that number."""

    calls: int
    problem: str
    """Why this many is too much; empty: it was carried."""
    report: CallReport
    samples: tuple[HostSample, ...] = ()
    tries: int = 1
    carried_tries: int | None = None
    """None: as ``problem`` says."""

    @property
    def good_tries(self) -> int:
        return self.tries * (not self.problem) if self.carried_tries is None else self.carried_tries

    @property
    def carried(self) -> bool:
        """Most tries were; as many as were not is not."""
        return 2 * self.good_tries > self.tries

    @property
    def lead(self) -> int:
        """By how many tries one verdict is ahead of the other."""
        return abs(2 * self.good_tries - self.tries)

    def highest(self, name: str) -> float:
        """The largest value of a field of the samples; 0 without any."""
        values = [value for one in self.samples if (value := getattr(one, name)) is not None]
        return max(values, default=0.0)

    @property
    def refused_for_load(self) -> bool:
        counts = [one.refused_for_load for one in self.samples]
        return bool(counts) and max(counts) > counts[0]

    @property
    def least_memory(self) -> float:
        return min((one.memory_available for one in self.samples), default=1.0)

    @property
    def answer_p95_s(self) -> float | None:
        times = self.report.values("audio_s")
        return percentile(times, 95) if times else None

    def as_json(self) -> CapacityStep:
        """Return the step as documents have it."""
        gaps, losses = self.report.values("max_gap_s"), self.report.values("loss")
        answer = self.answer_p95_s
        return {
            "call_count": self.calls,
            "carried": self.carried,
            "try_count": self.tries,
            "carried_count": self.good_tries,
            "problem": self.problem,
            "answered_count": self.report.ok,
            "answer_p95_s": None if answer is None else round(answer, 3),
            "max_gap_s": max(gaps, default=None),
            "max_loss": max(losses, default=None),
            "cpu_share": round(self.highest("cpu_share"), 3),
            "memory_left_share": round(self.least_memory, 3),
            "load": round(self.highest("load"), 3),
            "callers_cpu_share": self.report.load.cpu_share,
            "callers_starved": self.report.load.starved,
        }


def problem_of(report: CallReport, calls: int) -> str:
    """Why these calls were too many; empty where they were carried."""
    answered = [one for one in report.results if one.audio_s is not None]
    if len(answered) < calls or report.ok < calls:
        kinds = ", ".join(f"{count} {kind}" for kind, count in report.failures.items())
        missing = calls - report.ok
        return f"{counted(missing, 'call')} of {calls} not answered or lost ({kinds or 'never placed'})"
    answer_s = percentile([one.audio_s or 0.0 for one in answered], 95)
    if answer_s >= ANSWER_LIMIT_S:
        return f"p95 answer {answer_s:.2f} s"
    gap_s = max(report.values("max_gap_s"), default=0.0)
    if gap_s > GAP_LIMIT_S:
        return f"a gap of {gap_s * 1000:.0f} ms"
    loss = max(report.values("loss"), default=0.0)
    return f"{loss:.2%} of a call's packets lost" if loss else ""


def judged(tries: Sequence[CapacityTrial]) -> list[CapacityTrial]:
    """One step for each number that was tried, in order: the verdict of most tries, as the last try that says so had it."""
    found: dict[int, list[CapacityTrial]] = {}
    for one in tries:
        found.setdefault(one.calls, []).append(one)
    steps = []
    for _, same in sorted(found.items()):
        good = sum(not one.problem for one in same)
        speaks = [one for one in same if bool(one.problem) == (2 * good <= len(same))]
        steps.append(replace(speaks[-1], tries=len(same), carried_tries=good))
    return steps


def next_calls(tries: Sequence[CapacityTrial], most: int) -> int | None:
    """The number to try next: doubled until one is too much, then in the middle; None: it is known.

    One try proves little, since other work on a machine has its moments. So the largest number that was carried and
    the one above it are tried again at the end, minutes later, and the search goes on where they say otherwise then.
    """
    steps = {one.calls: one for one in judged(tries)}
    undecided = next((one.calls for one in steps.values() if not one.lead), None)
    if undecided is not None:
        return undecided
    carried = most_carried(list(steps.values()))
    too_many = min((one.calls for one in steps.values() if not one.carried), default=None)
    if too_many is None and carried < most:
        return min(most, max(1, 2 * carried))
    if too_many is not None and too_many - carried > 1:
        return (carried + too_many) // 2
    ends = [steps[one] for one in (too_many, carried) if one]
    return next((one.calls for one in ends if not _certain(one)), None)


def _certain(step: CapacityTrial) -> bool:
    if not step.carried and step.tries < _LEAST_FAILED:
        return False
    return step.lead >= _LEAD or step.tries >= _MOST_TRIES


def most_carried(steps: Sequence[CapacityTrial]) -> int:
    """The largest number that was carried below the first one that was not; 0: not even one."""
    too_many = min((one.calls for one in steps if not one.carried), default=math.inf)
    return max((one.calls for one in steps if one.carried and one.calls < too_many), default=0)


def first_to_give_in(steps: Sequence[CapacityTrial], *, callers_here: bool) -> tuple[CapacityLimit, str]:
    """What kept the host from one call more, as a word and a sentence; empty words where nothing did.

    ``callers_here``: the callers run on the host itself, where their share of its CPU is part of the figure.
    """
    failed = [one for one in steps if not one.carried]
    if not failed:
        return "", "nothing did: it may carry more (--most)"
    step = min(failed, key=lambda one: one.calls)
    load = step.report.load
    cpu = step.highest("cpu_share")
    kinds = {one.failure.kind for one in step.report.results if one.failure is not None}
    if load.starved and not callers_here:
        return "callers", f"the calling side, and not the host: {load.detail}"
    if any(one.at_max_jobs for one in step.samples) and _unanswered(kinds):
        return "max_concurrent_jobs", "max_concurrent_jobs of the agent"
    if step.refused_for_load or (any(one.over_load for one in step.samples) and _unanswered(kinds)):
        return "load_limit", f"load_limit of the agent: its load was {step.highest('load'):.2f}"
    if cpu >= FULL_CPU:
        whose = f", of which the callers took {load.cpu_share:.0%}: they run here" if callers_here else ""
        return "cpu", f"CPU: {cpu:.0%} in use{whose}"
    if FailureKind.NO_CONNECT in kinds:
        return "sockets", "connections: LiveKit let callers in no more, with CPU to spare"
    return "unknown", f"not to be told from outside: CPU {cpu:.0%}, {step.problem}"


def _unanswered(kinds: set[FailureKind]) -> bool:
    return bool(kinds & {FailureKind.NO_AGENT, FailureKind.SILENT})


def settings_for(steps: Sequence[CapacityTrial], gave_in: str) -> dict[str, float]:
    """The settings of the agent with which it takes as many calls as were carried, and no more.

    None where nothing gave in: it may carry more.
    """
    carried = most_carried(steps)
    if not carried or not gave_in:
        return {}
    found: dict[str, float] = {"max_concurrent_jobs": carried}
    load = max(one.highest("load") for one in steps if one.carried and one.calls == carried)
    if load and gave_in != "callers":
        # Room for the load of one call more, or the last of them would be refused for what it needs itself.
        found["load_limit"] = min(0.95, math.ceil((load + load / carried) * 20) / 20)
    return found


CAPACITY_HEADINGS = (
    "calls",
    "tries carried",
    "p95 answer",
    "gap",
    "lost",
    "cpu",
    "callers' cpu",
    "memory left",
    "load",
    "why not",
)


def capacity_row(step: CapacityTrial) -> tuple[str, ...]:
    """Return a number's line of a table with ``CAPACITY_HEADINGS``."""
    entry = step.as_json()
    answer, gap, loss = entry["answer_p95_s"], entry["max_gap_s"], entry["max_loss"]
    return (
        str(step.calls),
        f"{step.good_tries} of {step.tries}",
        "" if answer is None else f"{answer:.2f} s",
        "" if gap is None else f"{gap * 1000:.0f} ms",
        "" if loss is None else f"{loss:.1%}",
        f"{entry['cpu_share']:.0%}",
        f"{entry['callers_cpu_share']:.0%}",
        f"{entry['memory_left_share']:.0%}",
        f"{entry['load']:.2f}",
        step.problem,
    )


def capacity_text(
    steps: Sequence[CapacityTrial], gave_in: tuple[str, str], settings: dict[str, float]
) -> str:
    """The result in plain words."""
    carried = most_carried(steps)
    lines = [
        f"{counted(carried, 'call')} at once: p95 answer below {ANSWER_LIMIT_S:g} s, gaps up to "
        f"{GAP_LIMIT_S * 1000:.0f} ms, no loss",
        f"what gave in first: {gave_in[1]}",
    ]
    if settings:
        lines.append(
            "settings of the agent: " + ", ".join(f"{name}: {value:g}" for name, value in settings.items())
        )
    return "\n".join(lines)
