"""What the stages of a test run came to: counted from pytest's reports, judged, printed."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SLOWEST = 15


@dataclass
class Outcome:
    """What the stages so far came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    flaky: list[str] = field(default_factory=list)
    """Failed in the first run, passed in the second. Each counts as failed, unless its cause is known."""

    @property
    def ok(self) -> bool:
        return not self.failed and not self.failures

    def add(self, other: Outcome) -> None:
        """Count a stage in."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        self.slowest += other.slowest
        self.flaky += other.flaky


def read_report(junit: Path) -> Outcome:
    """Count one pytest run from its JUnit file; nothing where pytest did not get that far.

    A test whose teardown fails has two entries and counts once, as failed.
    """
    outcome = Outcome()
    if not junit.exists():
        return outcome
    results: dict[str, str] = {}
    for case in ET.parse(junit).iter("testcase"):
        name = _node(case.get("classname", ""), case.get("name", ""))
        outcome.slowest.append((float(case.get("time", "0")), name))
        if case.find("failure") is not None or case.find("error") is not None:
            results[name] = "failed"
        elif case.find("skipped") is not None:
            results.setdefault(name, "skipped")
        else:
            results.setdefault(name, "passed")
    outcome.failures = [name for name, result in results.items() if result == "failed"]
    counted = list(results.values())
    outcome.passed, outcome.failed, outcome.skipped = map(counted.count, ("passed", "failed", "skipped"))
    return outcome


def _node(classname: str, name: str) -> str:
    """The test's name as pytest takes it on its command line; the tests are functions, not methods."""
    return f"{classname.replace('.', '/')}.py::{name}" if classname else name


def judge_second_run(first: Outcome, second: Outcome, known: Mapping[str, str]) -> Outcome:
    """The first run's outcome, in which failures that passed the second time are named.

    The second run says what kind of failure it is; it does not undo it. Only a test in ``known`` (test -> cause)
    counts as passed then.
    """
    again = set(second.failures)
    # A second run that broke off proves nothing about what it did not reach.
    complete = second.passed + second.failed + second.skipped == first.failed
    flaky = [name for name in first.failures if name not in again] if complete else []
    forgiven = {name for name in flaky if without_parameters(name) in known}
    return Outcome(
        passed=first.passed + len(forgiven),
        failed=first.failed - len(forgiven),
        skipped=first.skipped,
        failures=[name for name in first.failures if name not in forgiven],
        slowest=first.slowest,
        flaky=flaky,
    )


def module_times(tests: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Seconds that the tests of each module took together, with their fixtures; the slowest first."""
    modules: dict[str, float] = {}
    for seconds, name in tests:
        module = name.partition("::")[0]
        modules[module] = modules.get(module, 0.0) + seconds
    return sorted(((seconds, name) for name, seconds in modules.items()), reverse=True)


def without_parameters(name: str) -> str:
    return name.partition("[")[0]


def failure_rates(failures: list[str], count: int) -> list[str]:
    """Of repeated tests: how many of ``count`` repetitions failed, each test once."""
    failed: dict[str, int] = {}
    for name in failures:
        test = re.sub(rf"\[(.*?)-?\d+-{count}\]$", lambda found: f"[{found[1]}]" if found[1] else "", name)
        failed[test] = failed.get(test, 0) + 1
    return [f"{test}: failed {times} of {count} times" for test, times in failed.items()]


def print_summary(outcome: Outcome, *, repeat: int, known: Mapping[str, str]) -> None:
    """Print what was slow and what failed, and ``N passed, N failed, N skipped`` last."""
    modules = module_times(outcome.slowest)[:SLOWEST]
    outcome.slowest = sorted(outcome.slowest, reverse=True)[:SLOWEST]
    if outcome.slowest:
        print("== slowest tests")
        for seconds, name in outcome.slowest:
            print(f"{seconds:8.2f} s  {name}")
        print("== slowest modules")
        for seconds, name in modules:
            print(f"{seconds:8.2f} s  {name}")
    if outcome.seconds:
        print("== " + ", ".join(f"{stage} {seconds:g} s" for stage, seconds in outcome.seconds.items()))
    for name in outcome.flaky:
        cause = known.get(without_parameters(name))
        note = f"known: {cause}" if cause else "find its cause with `inv test --repeat 20 -k NAME`"
        print(f"FLAKY {name}: failed, then passed alone; {note}")
    for line in failure_rates(outcome.failures, repeat) if repeat > 1 else outcome.failures:
        print(f"FAILED {line}")
    skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
    sys.stderr.flush()
    print(f"{outcome.passed} passed, {outcome.failed} failed{skipped}", flush=True)
