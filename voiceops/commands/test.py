"""Run the tests of voiceops in the environment of the development tools."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceops.bootstrap import DEV_LOCK, BootstrapError, ensure
from voiceops.cli.command import CommandRun, Report, names
from voiceops.errors import UsageError, VoiceopsError

if TYPE_CHECKING:
    from voiceops.model.documents.project import TestsDocument

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("checks", "unit", "integration")


def run_stages(run: CommandRun, *, only: str, fast: bool, k: str, repeat: int) -> Report:
    """Run the selected stages in a process of their own and report what it wrote."""
    stages = _stages(only, k=k, repeat=repeat)
    try:
        environment = ensure(ROOT, DEV_LOCK)
    except BootstrapError as error:
        raise VoiceopsError(error.message, hint=error.hint, log_tail=error.log_tail) from error
    with tempfile.TemporaryDirectory(prefix="voiceops-test-") as folder:
        report = Path(folder) / "report.json"
        command = [str(environment / "bin" / "python"), "-m", "tests.run", "--report", str(report)]
        command += ["--stages", ",".join(stages), "-k", k, "--repeat", str(repeat)]
        command += ["--fast"] if fast else []
        # With --json, stdout belongs to the document.
        code = _run(command, to_stderr=run.json)
        if not report.exists():
            raise VoiceopsError(f"the tests ended with exit code {code} and left no report")
        data: dict[str, Any] = json.loads(report.read_text())
    if "error" in data:
        raise UsageError(data["error"], hint=data["hint"])
    document: TestsDocument = {
        "passed_count": data["passed"],
        "failed_count": data["failed"],
        "skipped_count": data["skipped"],
        "stages": {name: {"took_s": took_s} for name, took_s in data["seconds"].items()},
        "failures": data["failures"],
        "flaky": data["flaky"],
        "slowest": [{"test": name, "took_s": took_s} for took_s, name in data["slowest"]],
    }
    return Report(document, exit_code=code)


def _stages(only: str, *, k: str, repeat: int) -> tuple[str, ...]:
    """The stages to run; ``UsageError`` for flags that make no sense."""
    stages = names(only) or STAGES
    if unknown := set(stages) - set(STAGES):
        raise UsageError(
            f"no such stage: {', '.join(sorted(unknown))}", hint=f"there are {', '.join(STAGES)}"
        )
    if repeat < 1 or (repeat > 1 and not k):
        raise UsageError(
            "--repeat needs a count and -k", hint="for example `inv test --repeat 20 -k cleanup`"
        )
    if k and set(stages) == {"checks"}:
        raise UsageError("-k selects tests, and --only checks has none", hint="leave one of them out")
    if not (ROOT / DEV_LOCK).exists():
        raise UsageError("inv test runs in a checkout of voiceops")
    return stages


def _run(command: list[str], *, to_stderr: bool) -> int:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    }
    process = subprocess.Popen(command, cwd=ROOT, env=kept, stdout=2 if to_stderr else None)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal has told the tests as well: they clean up, then this ends.
        process.wait()
        raise
