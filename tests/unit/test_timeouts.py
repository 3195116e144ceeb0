"""Fixtures and tests have limits of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SAMPLE = """
import time

import pytest

from tests.support import timeouts

timeouts.FIXTURES_TIMEOUT_S = 1.5


@pytest.fixture
def slow():
    time.sleep(0.6)
    yield
    time.sleep(0.6)


@pytest.fixture
def hanging():
    time.sleep(30)


@pytest.mark.timeout(0.5)
def test_with_a_slow_fixture(slow):
    pass


@pytest.mark.timeout(0.5)
def test_with_a_hanging_fixture(hanging):
    pass


@pytest.mark.timeout(0.5)
def test_that_hangs():
    time.sleep(30)
"""


def test_a_slow_fixture_is_not_counted_and_a_hanging_one_ends(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    ini = ["-c", str(repository / "pyproject.toml"), f"--rootdir={tmp_path}", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *ini, "-p", "tests.support.timeouts", "test_sample.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "test_with_a_slow_fixture PASSED" in done.stdout, done.stdout
    assert "test_with_a_hanging_fixture ERROR" in done.stdout
    assert "Timeout (>1.5s)" in done.stdout
    assert "test_that_hangs FAILED" in done.stdout
    assert "Timeout (>0.5s)" in done.stdout
