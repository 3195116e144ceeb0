"""The archives of a release: what a checkout has and an installed voiceops needs, and nothing that a run left."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

FOLDERS = ("voiceops", "templates", "examples")
SHIPPED = ("templates", "examples", "inventory.yaml", ".env.example", "requirements.lock")
BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "inv")
LEFTOVERS = (
    ".env",
    "examples/agent/.env",
    "examples/agent/.voiceops/state",
    "examples/rental/__pycache__/agent.cpython-311.pyc",
    "templates/.livekit.yaml.swp",
    "voiceops/__pycache__/errors.cpython-311.pyc",
    "voiceops/.hidden/errors.py",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A copy of this checkout without git, in which something has run."""
    folder = tmp_path_factory.mktemp("release") / "checkout"
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(repository / name, folder / name, ignore=ignored)
    for name in {*SHIPPED, *BUILD_FILES} - {*FOLDERS}:
        shutil.copy(repository / name, folder / name)
    for name in LEFTOVERS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("LIVEKIT_API_SECRET=mine\n")
    return folder


def files(folder: Path, *names: str) -> set[str]:
    """The files below ``names``, as a release has them."""
    paths = (
        path
        for name in names
        for path in ((folder / name).rglob("*") if (folder / name).is_dir() else [folder / name])
    )
    return {str(path.relative_to(folder)) for path in paths if path.is_file()} - {*LEFTOVERS}


def build(source: Path, target: Path) -> Path:
    """Build one kind of archive (the name of ``target``'s last part) and return it."""
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        target.name,
        "--directory",
        str(target),
    ]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (archive,) = target.iterdir()
    return archive


def in_wheel(wheel: Path) -> set[str]:
    """The files of a wheel without those about it."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_a_wheel_has_the_package_and_what_it_ships(checkout: Path, tmp_path: Path) -> None:
    names = in_wheel(build(checkout, tmp_path / "wheel"))
    shipped = {f"voiceops/shipped/{name}" for name in files(checkout, *SHIPPED)}
    assert names == files(checkout, "voiceops") | shipped
    assert {"voiceops/py.typed", "voiceops/deploy/pip.lock", "voiceops/shipped/.env.example"} <= names
    page = {"html", "css", "js", "mjs"}
    assert {name.rpartition(".")[2] for name in files(checkout, "voiceops")} == {"py", "typed", "lock"} | page


def test_a_wheel_from_the_source_archive_is_the_same(checkout: Path, tmp_path: Path) -> None:
    archive = build(checkout, tmp_path / "sdist")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert files(unpacked, ".") == files(checkout, *FOLDERS, *SHIPPED, *BUILD_FILES) | {"PKG-INFO"}
    direct, through = build(checkout, tmp_path / "wheel"), build(unpacked, tmp_path / "again" / "wheel")
    assert direct.read_bytes() == through.read_bytes()
