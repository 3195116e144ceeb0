"""The wheel of voiceops for hosts: named by what runs there, and by nothing else."""

from __future__ import annotations

import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.support.projects import REPOSITORY
from voiceops.deploy import own_wheel as module
from voiceops.deploy.own_wheel import OwnWheel


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this checkout that the wheel is made from."""
    folder = tmp_path / "checkout"
    for name in ("voiceops", "examples", "templates"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("inventory.yaml", ".env.example"):
        shutil.copy(REPOSITORY / name, folder / name)
    monkeypatch.setattr(module, "PACKAGE", folder / "voiceops")
    return folder


def built(cache: Path) -> OwnWheel:
    module.own_wheel.cache_clear()
    try:
        return module.own_wheel(cache)
    finally:
        module.own_wheel.cache_clear()


@pytest.mark.parametrize(
    "name",
    ["examples/agent/agent.py", "inventory.yaml", ".env.example", "templates/systemd/agent@.service"],
)
def test_what_no_host_runs_is_no_part_of_it(checkout: Path, tmp_path: Path, name: str) -> None:
    before = built(tmp_path)
    (checkout / name).write_text((checkout / name).read_text() + "# mine\n")
    assert built(tmp_path).version == before.version


def test_another_text_of_the_package_is_another_version(checkout: Path, tmp_path: Path) -> None:
    before = built(tmp_path)
    agentkit = checkout / "voiceops/agentkit/__init__.py"
    agentkit.write_text(agentkit.read_text() + "# changed\n")
    after = built(tmp_path)
    assert after.version != before.version
    with after.content.open() as file, zipfile.ZipFile(BytesIO(file.read())) as wheel:
        names = wheel.namelist()
        assert "voiceops/agentkit/__init__.py" in names
        assert b"# changed" in wheel.read("voiceops/agentkit/__init__.py")
    assert not [name for name in names if "shipped/" in name]
