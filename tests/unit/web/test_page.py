"""The page's own files: its modules pass the tests that node runs, and it loads nothing that is not served."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import parts
from voiceops.web import assets

TESTS = sorted((Path(__file__).parent / "page").glob("*.test.mjs"))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_the_modules_of_the_page_pass_their_own_tests(file: Path) -> None:
    done = subprocess.run(
        [parts.node(), "--test", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.findall(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[0]) > 0


def test_each_file_of_the_page_is_served_and_each_that_is_named_is_there() -> None:
    served = {name for name, _ in (assets._PAGE_FILES | assets._DASHBOARD_FILES).values()}
    assert served == {path.name for path in assets.PAGE.iterdir()}
    named: set[str] = set()
    for path in assets.PAGE.iterdir():
        pattern = r'(?:from |src=|href=)"(?:\./|/)([\w.-]+)"'
        named |= set(re.findall(pattern, path.read_text()))
    assert named - served == {assets.CLIENT_URL.removeprefix("/")}


def test_the_page_has_no_script_or_style_within() -> None:
    page = (assets.PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", page)
