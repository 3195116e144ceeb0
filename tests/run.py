"""All checks and tests with one summary: ``python -m tests.run``, which ``inv test`` calls."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = [sys.executable, "-m"]
SCRIPTS = Path(sys.executable).parent
CHECKS = {
    "ruff": [str(SCRIPTS / "ruff"), "check", "--quiet", "."],
    "ruff format": [str(SCRIPTS / "ruff"), "format", "--check", "--quiet", "."],
    "mypy": [*PYTHON, "mypy", "--no-error-summary"],
    "import-linter": [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports_command as c; sys.exit(c())",
    ],
}
SLOWEST = 15
FEW = 8
NO_TESTS_COLLECTED = 5


@dataclass
class Outcome:
    """What the stages so far came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)
    """Failed beside others, passed alone."""

    @property
    def ok(self) -> bool:
        return not self.failed and not self.failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages and print ``N passed, N failed, N skipped`` last."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", default="checks,unit,integration")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("-k", default="")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(arguments)
    stages = options.stages.split(",")
    # A shell that starts us in the background ignores SIGINT for all that follow, and tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("CI") == "true":
        os.environ.setdefault("VOICEOPS_REQUIRE_PARTS", "1")
    outcome = Outcome()
    select = ["-k", options.k] if options.k else []
    try:
        if "checks" in stages:
            _timed(outcome, "checks", _checks)
        if "unit" in stages:
            _timed(outcome, "unit", lambda o: _pytest(o, ["tests/unit", "-n", "2", *select]))
        if "integration" in stages:
            subprocess.run([*PYTHON, "tests.install_parts"], cwd=ROOT, check=False)
            real = ["tests/contract", "tests/integration", *select]
            # These wait more than they compute; a module's tests share its stacks and stay together.
            side_by_side = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
            _timed(outcome, "integration", lambda o: _on_real_parts(o, real, side_by_side))
            if not options.fast:
                _timed(outcome, "heavy", lambda o: _pytest(o, [*real, "-m", "heavy"]))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        _summary(outcome)
        if options.report:
            options.report.write_text(json.dumps({"ok": outcome.ok, **asdict(outcome)}))
    return 0 if outcome.ok else 1


def _timed(outcome: Outcome, stage: str, work: object) -> None:
    assert callable(work)
    started = time.monotonic()
    print(f"== {stage}", flush=True)
    work(outcome)
    outcome.seconds[stage] = round(time.monotonic() - started, 1)


def _checks(outcome: Outcome) -> None:
    """The static checks, side by side; each counts as one test."""
    running = {
        name: subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name, command in CHECKS.items()
    }
    for name, process in running.items():
        output, _ = process.communicate()
        if process.returncode:
            outcome.failed += 1
            outcome.failures.append(name)
            print(f"-- {name} failed\n{output.rstrip()}", flush=True)
        else:
            outcome.passed += 1
            print(f"-- {name} passed", flush=True)


def _on_real_parts(outcome: Outcome, real: list[str], side_by_side: list[str]) -> None:
    """Real servers on a shared machine: what fails is tried once more, alone, and named if it then passes.

    More than a few failures are no noise: they stand as they are.
    """
    first = Outcome()
    _pytest(first, [*real, *side_by_side, "-m", "not heavy"])
    if 0 < first.failed <= FEW:
        print(f"== {first.failed} failed: once more, alone", flush=True)
        again = Outcome()
        _pytest(again, [*real, "--last-failed", "--last-failed-no-failures=none", "-m", "not heavy"])
        if again.passed + again.failed == first.failed:
            outcome.unsteady += [name for name in first.failures if name not in again.failures]
            first.failed, first.failures = again.failed, again.failures
            first.passed += again.passed
    outcome.passed += first.passed
    outcome.failed += first.failed
    outcome.skipped += first.skipped
    outcome.failures += first.failures
    outcome.slowest += first.slowest


def _pytest(outcome: Outcome, arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="voiceops-junit-") as folder:
        junit = Path(folder) / "junit.xml"
        process = subprocess.Popen(
            [
                *PYTHON,
                "pytest",
                "-q",
                f"--junitxml={junit}",
                "--durations=0",
                "--durations-min=60",
                *arguments,
            ],
            cwd=ROOT,
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # The terminal has told pytest too: it cleans up.
            process.wait()
            raise
        if code == NO_TESTS_COLLECTED:
            return
        if code and not _count(outcome, junit):
            outcome.failed += 1
            outcome.failures.append(f"pytest {' '.join(arguments)} exited {code}")
        elif not code:
            _count(outcome, junit)


def _count(outcome: Outcome, junit: Path) -> int:
    """Add a stage's results; returns how many of them failed."""
    if not junit.exists():
        return 0
    failed = 0
    for case in ET.parse(junit).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
        outcome.slowest.append((float(case.get("time", "0")), name))
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            outcome.failures.append(name)
        elif case.find("skipped") is not None:
            outcome.skipped += 1
        else:
            outcome.passed += 1
    outcome.failed += failed
    return failed


def _summary(outcome: Outcome) -> None:
    outcome.slowest = sorted(outcome.slowest, reverse=True)[:SLOWEST]
    if outcome.slowest:
        print("== slowest")
        for seconds, name in outcome.slowest:
            print(f"{seconds:8.2f} s  {name}")
    if outcome.seconds:
        print("== " + ", ".join(f"{stage} {seconds:g} s" for stage, seconds in outcome.seconds.items()))
    for name in outcome.unsteady:
        print(f"UNSTEADY {name}: failed beside others, passed alone")
    for name in outcome.failures:
        print(f"FAILED {name}")
    skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
    print(f"{outcome.passed} passed, {outcome.failed} failed{skipped}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
