"""What a command may import before it has work to do: each ``inv`` pays for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "aiohttp",
    "asyncio",
    "concurrent.futures",
    "fabric",
    "google.protobuf",
    "jinja2",
    "livekit",
    "numpy",
    "opentelemetry",
    "paramiko",
    "pydantic",
    "requests",
    "rich",
    "unittest",
    "urllib.request",
}


def heavy_among(modules: set[str]) -> set[str]:
    """The forbidden packages that these modules belong to."""
    return {heavy for heavy in HEAVY for name in modules if name == heavy or name.startswith(f"{heavy}.")}


def imported(arguments: list[str], folder: Path) -> set[str]:
    """The modules that a command line imports, as ``-X importtime`` lists them."""
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-m", "voiceops", "--project", str(folder), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return set(re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", done.stderr, re.MULTILINE))


def test_importing_the_tasks_imports_nothing_heavy(repository: Path) -> None:
    program = (
        "import json, sys; from voiceops.__main__ import import_invoke; import_invoke();"
        f"sys.path.insert(0, {str(repository)!r}); import tasks; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    modules = set(json.loads(done.stdout))
    assert "voiceops.cli.command" in modules
    assert heavy_among(modules) == set()


@pytest.mark.parametrize("arguments", [["--list"], ["--version"], ["nonsense"]])
def test_the_command_line_alone_imports_nothing_heavy(arguments: list[str], repository: Path) -> None:
    modules = imported(arguments, repository)
    assert "invoke.program" in modules
    assert heavy_among(modules) == set()


def test_a_stand_in_for_mock_stays_usable_and_leaves_no_trace() -> None:
    program = (
        "from voiceops.__main__ import import_invoke; import_invoke(); import sys;"
        "assert 'unittest.mock' not in sys.modules;"
        "from invoke import MockContext, Result;"
        "context = MockContext(run=Result('out')); assert context.run('x').stdout == 'out';"
        "context.run.assert_called_once_with('x');"
        "from invoke.util import yaml; assert yaml.safe_load('a: 1') == {'a': 1}"
    )
    subprocess.run([sys.executable, "-I", "-c", program], timeout=60, check=True)
