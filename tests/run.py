"""All checks and tests with one summary: ``python -m tests.run``, which ``inv test`` calls."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.support.flaky import KNOWN_FLAKY
from tests.support.results import Outcome, judge_second_run, print_summary, read_report
from voiceops.adapters.binaries.progress import cache_folder

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
    "deptry": [str(SCRIPTS / "deptry"), "--no-ansi", "."],
    "vulture": [*PYTHON, "vulture"],
}
FOLDERS = {"unit": ["tests/unit"], "integration": ["tests/contract", "tests/integration"]}
SECOND_RUN_MAX = 8
"""More failures than these are no matter of chance: they are not run again."""
USAGE = 3
PYTEST_TESTS_FAILED = 1
PYTEST_USAGE_ERROR = 4
PYTEST_NO_TESTS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages and print ``N passed, N failed, N skipped`` last."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", default="checks,unit,integration")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("-k", default="")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(arguments)
    stages = options.stages.split(",")
    # A shell that starts us in the background ignores SIGINT for all that follow, and tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("CI") == "true":
        os.environ.setdefault("VOICEOPS_REQUIRE_PARTS", "1")
        # From a fresh clone mypy would read all libraries anew, which takes it 20 s.
        os.environ.setdefault("MYPY_CACHE_DIR", str(cache_folder() / "mypy"))
    select = ["-k", options.k] if options.k else []
    select += ["-m", "not slow"] if options.fast else []
    select += ["-p", "tests.support.repetition", f"--repeat={options.repeat}"] if options.repeat > 1 else []
    if options.k:
        matching, refusal = _matching_stages([stage for stage in stages if stage in FOLDERS], select)
        if refusal is not None:
            return _refuse(options.k, refusal, options.report)
        stages = [stage for stage in stages if stage not in FOLDERS or stage in matching]
    outcome = Outcome()
    try:
        if "checks" in stages:
            _timed(outcome, "checks", _checks)
        if "unit" in stages or "integration" in stages:
            subprocess.run([*PYTHON, "tests.support.install_parts"], cwd=ROOT, check=False)
        if "unit" in stages:
            _timed(outcome, "unit", lambda: _pytest([*FOLDERS["unit"], "-n", "2", *select]))
        if "integration" in stages:
            _timed(outcome, "integration", lambda: _on_real_parts(select, repeat=options.repeat))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        print_summary(outcome, repeat=options.repeat, known=KNOWN_FLAKY)
        if options.report:
            options.report.write_text(json.dumps({"ok": outcome.ok, **asdict(outcome)}))
    return 0 if outcome.ok else 1


def _matching_stages(stages: list[str], select: list[str]) -> tuple[list[str], str | None]:
    """The stages that have a selected test, or why there is none. What can't be collected is left to its stage."""
    code, listed = _collect(stages, select)
    if code == PYTEST_NO_TESTS:
        return [], "it is part of no test's, module's or folder's name"
    if code == PYTEST_USAGE_ERROR:
        return [], listed.strip().splitlines()[-1]
    if code:
        return stages, None
    return [stage for stage in stages if any(f"{folder}/" in listed for folder in FOLDERS[stage])], None


def _collect(stages: list[str], select: list[str]) -> tuple[int, str]:
    folders = [folder for stage in stages for folder in FOLDERS[stage]]
    listing = [*PYTHON, "pytest", "-q", "--collect-only", *folders, *select]
    plain = os.environ | {"PYTEST_ADDOPTS": ""}  # the listing is read here
    done = subprocess.run(listing, cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout if not done.returncode else done.stdout + done.stderr


def _refuse(expression: str, reason: str, report: Path | None) -> int:
    """Say that nothing can be run for ``-k``: to whoever reads the report, else on stderr."""
    words = set(re.findall(r"[a-z]{4,}", _collect(list(FOLDERS), [])[1]))
    likely = difflib.get_close_matches(expression, words, n=1)
    error = f"-k {expression!r} selects no test: {reason}"
    hint = (
        f"did you mean {likely[0]!r}?"
        if likely
        else "`-k` takes what pytest's -k takes, such as `cleanup and not cron`"
    )
    if report is None:
        print(f"{error}\n{hint}", file=sys.stderr)
    else:
        report.write_text(json.dumps({"ok": False, "error": error, "hint": hint}))
    return USAGE


def _timed(outcome: Outcome, stage: str, work: Callable[[], Outcome]) -> None:
    started = time.monotonic()
    print(f"== {stage}", flush=True)
    outcome.add(work())
    outcome.seconds[stage] = round(time.monotonic() - started, 1)


def _checks() -> Outcome:
    """The static checks, side by side; each counts as one test."""
    outcome = Outcome()
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
    return outcome


def _on_real_parts(select: list[str], *, repeat: int) -> Outcome:
    """Real servers, several modules at a time. What fails runs once more, alone, to tell what kind of failure it is."""
    # These wait more than they compute; a module's tests share its stacks and stay together.
    side_by_side = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    first = _pytest([*FOLDERS["integration"], *select, *side_by_side])
    broke_off = any("::" not in name for name in first.failures)
    if repeat > 1 or broke_off or not 0 < first.failed <= SECOND_RUN_MAX:
        return first
    print(f"== {first.failed} failed: once more, alone", flush=True)
    only_failed = ["--last-failed", "--last-failed-no-failures=none"]
    second = _pytest([*FOLDERS["integration"], *select, *only_failed])
    return judge_second_run(first, second, KNOWN_FLAKY)


def _pytest(arguments: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="voiceops-junit-") as folder:
        junit = Path(folder) / "junit.xml"
        command = [*PYTHON, "pytest", "-q", f"--junitxml={junit}", "--durations=0", "--durations-min=60"]
        process = subprocess.Popen([*command, *arguments], cwd=ROOT)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # The terminal has told pytest too: it cleans up.
            process.wait()
            raise
        outcome = read_report(junit)
    if code not in (0, PYTEST_TESTS_FAILED) or (code and not outcome.failed):
        # It broke off, and what it did not reach has not passed.
        outcome.failed += 1
        outcome.failures.append(f"pytest {' '.join(arguments)} exited {code}")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
