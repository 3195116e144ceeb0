"""The API reference is built from docstrings without a warning, and has every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

CANARY = "a-value-of-the-environment"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The reference, built as CONTRIBUTING.md says; warnings are errors."""
    folder = tmp_path_factory.mktemp("reference")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "doctrees")]
    done = subprocess.run(
        [*command, "docs/reference", str(folder / "site")],
        cwd=repository,
        env={**os.environ, "OPENAI_API_KEY": CANARY},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.mark.parametrize("name", ["rooms", "agentkit", "resources"])
def test_the_reference_has_every_public_name(site: Path, name: str) -> None:
    described = re.findall(rf'id="voiceops\.{name}\.(\w+)"', (site / f"{name}.html").read_text())
    assert sorted({*described}) == sorted(import_module(f"voiceops.{name}").__all__)


def test_the_reference_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = [
        f"{page.name}: {tag}"
        for page in site.rglob("*.html")
        for tag in re.findall(
            r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>", page.read_text()
        )
    ]
    assert loaded == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", styles)


def test_the_reference_shows_no_value_of_the_environment_it_was_built_in(site: Path) -> None:
    assert [page.name for page in site.rglob("*.html") if CANARY in page.read_text()] == []
