"""Files that others read: GitHub, pre-commit, people who look at a changelog or at the README for the first time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.unit.test_docs import parses


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_ci_runs_everything_on_each_python_that_has_been_tried(repository: Path) -> None:
    job = loaded(repository / ".github/workflows/ci.yml")["jobs"]["test"]
    pythons = job["strategy"]["matrix"]["python"]
    assert pythons == ["3.10", "3.11", "3.12", "3.13"]
    requires = msgspec.toml.decode((repository / "pyproject.toml").read_bytes())["project"]["requires-python"]
    assert requires.startswith(f">={pythons[0]},")
    assert [step["run"] for step in job["steps"] if "run" in step][-1].split()[-1] == ".ci/run"


def test_hooks_run_inv_test_and_fetch_nothing(repository: Path) -> None:
    (local,) = loaded(repository / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    assert [hook["language"] for hook in local["hooks"]] == ["system"] * len(local["hooks"])
    assert [parses(hook["entry"]) for hook in local["hooks"]] == [""] * len(local["hooks"])


def test_readme_begins_with_what_it_is_for_and_two_commands(repository: Path) -> None:
    readme = (repository / "README.md").read_text()
    assert len(readme.splitlines()) < 200
    introduction, first, _ = readme.split("\n## ", maxsplit=2)
    assert "runs self-hosted LiveKit voice agents" in introduction
    assert re.findall(r"^\./inv .*", first, re.MULTILINE) == ["./inv start", "./inv call"]


def test_the_changelog_has_the_form_of_keep_a_changelog(repository: Path) -> None:
    versions = re.split(r"^## ", (repository / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    titles = [version.partition("\n")[0] for version in versions]
    assert titles[0] == "[Unreleased]"
    wrong = [title for title in titles[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", title)]
    assert wrong == []
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for version in versions:
        found = re.findall(r"^### (.*)", version, re.MULTILINE)
        assert found == [kind for kind in kinds if kind in found]
        assert not re.search(r"^- ", version.partition("\n### ")[0], re.MULTILINE), (
            "a change without its kind"
        )


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_locks_hold_hashes_and_no_addresses(repository: Path, name: str) -> None:
    lock = (repository / name).read_text()
    assert "://" not in lock
    assert [entry for entry in re.split(r"\n(?=\S)", lock) if "--hash=sha256:" not in entry] == []


def test_the_lock_for_development_holds_what_runs_as_it_is_locked_for_use(repository: Path) -> None:
    used, for_development = (
        {*re.findall(r"^[\w.-]+==\S+", (repository / name).read_text(), re.MULTILINE)}
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert used - for_development == set()
