"""The runner behind ``inv test``: what counts as failed, what is selected, what is repeated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from invoke import Context, Exit

from tests.run import FOLDERS, USAGE
from tests.support.flaky import KNOWN_FLAKY
from tests.support.results import Outcome, failure_rates, judge_second_run, read_report
from voiceops.tasks.test import run_tests

RUNNER = ("run.py", "support/results.py", "support/repetition.py")
FLAKY = """
from pathlib import Path

def test_fails_at_first(request):
    been_here = Path(request.config.rootpath) / "been-here"
    first = not been_here.exists()
    been_here.touch()
    assert not first

def test_passes():
    pass
"""
NODE = "tests/integration/test_sample.py::test_fails_at_first"


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    """A folder with the runner and one module of tests, the first of which passes from the second time on."""
    for folder in (*FOLDERS["unit"], *FOLDERS["integration"]):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tests/__init__.py").touch()
    (tmp_path / "tests/support").mkdir()
    (tmp_path / "tests/support/__init__.py").touch()
    for name in RUNNER:
        shutil.copy(repository / "tests" / name, tmp_path / "tests" / name)
    (tmp_path / "tests/support/install_parts.py").touch()
    (tmp_path / "tests/support/flaky.py").write_text("KNOWN_FLAKY = {}\n")
    # Without what pytest finds by itself: it costs each of its processes a second.
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "-p xdist.plugin"\n')
    (tmp_path / "tests/integration/test_sample.py").write_text(FLAKY)
    (tmp_path / "tests/unit/test_unit.py").write_text(FLAKY.replace("fails_at_first", "cleanup_of_rooms"))
    return tmp_path


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.run", *arguments],
        cwd=checkout,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_test_that_fails_and_then_passes_fails_the_run_unless_its_cause_is_listed(checkout: Path) -> None:
    known = NODE.replace("fails_at_first", "is_known")
    sample = checkout / "tests/integration/test_sample.py"
    sample.write_text(FLAKY + FLAKY.replace("fails_at_first", "is_known").replace("been-here", "been-there"))
    (checkout / "tests/support/flaky.py").write_text(f'KNOWN_FLAKY = {{"{known}": "the kernel is late"}}\n')
    done = run(checkout, "--stages", "integration")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"FLAKY {NODE}: failed, then passed alone; find its cause" in done.stdout
    assert f"FLAKY {known}: failed, then passed alone; known: the kernel is late\n" in done.stdout
    assert done.stdout.endswith(f"FAILED {NODE}\n2 passed, 1 failed\n")


def test_a_run_that_breaks_off_has_failed_whatever_is_known_of_its_failures(checkout: Path) -> None:
    sample = checkout / "tests/integration/test_sample.py"
    sample.write_text(
        FLAKY.replace(
            "def test_passes():\n    pass", "def test_ends():\n    import pytest\n    pytest.exit('gone', 2)"
        )
    )
    (checkout / "tests/support/flaky.py").write_text(f'KNOWN_FLAKY = {{"{NODE}": "the kernel is late"}}\n')
    done = run(checkout, "--stages", "integration")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "once more" not in done.stdout
    assert "exited 2" in done.stdout


def test_an_expression_that_matches_no_test_is_refused_with_the_likely_one(checkout: Path) -> None:
    done = run(checkout, "-k", "clenup", "--report", "report.json")
    assert done.returncode == USAGE
    report = json.loads((checkout / "report.json").read_text())
    assert report["error"].startswith("-k 'clenup' selects no test")
    assert report["hint"] == "did you mean 'cleanup'?"
    done = run(checkout, "--stages", "unit", "-k", "a b")
    assert done.returncode == USAGE
    assert "expected end of input" in done.stderr


def test_repeated_tests_run_so_often_and_say_how_many_failed(checkout: Path) -> None:
    done = run(checkout, "--stages", "unit,integration", "-k", "fails_at_first", "--repeat", "3")
    assert done.returncode == 1
    assert "== unit" not in done.stdout, "a stage without a match is left out"
    assert f"FAILED {NODE}: failed 1 of 3 times\n2 passed, 1 failed\n" in done.stdout


def test_a_second_run_forgives_only_what_is_known_and_only_when_it_was_complete() -> None:
    first = Outcome(passed=7, failed=3, failures=["a.py::one[x]", "a.py::two", "a.py::three"])
    second = Outcome(passed=2, failed=1, failures=["a.py::three"])
    judged = judge_second_run(first, second, {"a.py::one": "known"})
    assert (judged.passed, judged.failed) == (8, 2)
    assert judged.failures == ["a.py::two", "a.py::three"]
    assert judged.flaky == ["a.py::one[x]", "a.py::two"]
    assert judge_second_run(
        first, Outcome(passed=3), dict.fromkeys(("a.py::one", "a.py::two", "a.py::three"), "known")
    ).ok
    broken_off = judge_second_run(first, Outcome(passed=1), {"a.py::one": "known"})
    assert (broken_off.failed, broken_off.flaky) == (3, [])


def test_failures_of_repetitions_are_counted_by_test() -> None:
    failures = ["a.py::one[1-20]", "a.py::one[7-20]", "a.py::two[x-3-20]", "a.py::three[3-2]"]
    assert failure_rates(failures, 20) == [
        "a.py::one: failed 2 of 20 times",
        "a.py::two[x]: failed 1 of 20 times",
        "a.py::three[3-2]: failed 1 of 20 times",
    ]


def test_a_test_whose_teardown_fails_counts_once_as_failed(tmp_path: Path) -> None:
    report = tmp_path / "junit.xml"
    case = '<testcase classname="tests.unit.test_x" name="test_y" time="1.5">{}</testcase>'
    report.write_text(f"<testsuite>{case.format('')}{case.format('<error/>')}</testsuite>")
    outcome = read_report(report)
    assert (outcome.passed, outcome.failures) == (0, ["tests/unit/test_x.py::test_y"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"only": "units"}, "no such stage"),
        ({"repeat": 3}, "-k"),
        ({"repeat": 0, "k": "x"}, "--repeat"),
        ({"only": "checks", "k": "x"}, "--only checks"),
    ],
)
def test_arguments_that_would_do_nothing_are_refused(
    arguments: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as refused:
        run_tests(Context(), inventory=None, json=False, debug=False, **arguments)
    assert refused.value.code == USAGE
    assert said in capsys.readouterr().err


def test_the_list_of_flaky_tests_is_short_and_names_tests_and_causes(repository: Path) -> None:
    assert len(KNOWN_FLAKY) <= 5
    for node, cause in KNOWN_FLAKY.items():
        path, _, function = node.partition("::")
        assert f"def {function}(" in (repository / path).read_text()
        assert len(cause) > 20, f"{node} needs its cause"
