"""Folders that somebody else can write: no link in them leads root away, whenever it is put there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.resources.test_apply import Machine
from voiceops.adapters.process.local import LocalTransport
from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.paths import pinned, remove_all, stat_of, switch_link
from voiceops.resources import Absent, Directory, File, Resource, Symlink, Tree
from voiceops.resources.model import Content

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the payload runs as root")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with closing(LocalTransport()) as transport:
        yield Machine(transport, tmp_path)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder that anybody can write, with a link to one that is ours."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(0o777)
    (tmp_path / "ours").mkdir(0o700)
    (folder / "link").symlink_to(tmp_path / "ours")
    return folder


@pytest.mark.parametrize("what", ["directory", "below", "file", "tree", "symlink"])
def test_a_link_that_somebody_else_can_have_made_is_refused(
    machine: Machine, theirs: Path, tmp_path: Path, what: str
) -> None:
    content = Content.of(b"x")
    resources: dict[str, Resource] = {
        "directory": Directory(path=f"{theirs}/link", mode=0o755),
        "below": Directory(path=f"{theirs}/link/a/b", mode=0o755),
        "file": File(path=f"{theirs}/link/a", content="x", mode=0o666),
        "tree": Tree(path=str(theirs), files={"link/a": content}),
        "symlink": Symlink(path=f"{theirs}/link/a", target="x"),
    }
    report = machine.apply(resources[what])
    assert "does not follow the link link" in report.results[0].error
    assert (os.listdir(tmp_path / "ours"), (tmp_path / "ours").stat().st_mode & 0o777) == ([], 0o700)


def test_what_is_removed_is_the_link_itself(machine: Machine, theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "ours/file").touch()
    machine.apply_twice(Absent(path=f"{theirs}/link"))
    assert not (theirs / "link").is_symlink()
    assert (tmp_path / "ours/file").exists()


def test_a_link_in_a_folder_of_ours_is_followed(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "way").symlink_to("real")
    machine.apply_twice(
        Directory(path=machine.at("way"), mode=0o750), File(path=machine.at("way/a"), content="x")
    )
    assert ((tmp_path / "real").stat().st_mode & 0o777, (tmp_path / "real/a").read_text()) == (0o750, "x")
    assert (tmp_path / "way").is_symlink()


def test_a_folder_that_is_exchanged_meanwhile_stays_the_one_that_was_opened(
    theirs: Path, tmp_path: Path
) -> None:
    (theirs / "data").mkdir()
    with pinned(f"{theirs}/data/file") as at:
        (theirs / "data").rename(theirs / "moved")
        (theirs / "data").symlink_to(tmp_path / "ours")
        Path(at).write_text("x")
    assert (theirs / "moved/file").read_text() == "x"
    assert os.listdir(tmp_path / "ours") == []


def test_a_ring_of_links_ends_and_messages_name_the_path(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(Failed, match="/a/x: root does not follow"):
        stat_of(f"{tmp_path}/a/x")
    with pytest.raises(OSError, match="ring/missing") as failed, pinned(f"{tmp_path}/ring/missing"):
        pass
    assert failed.value.filename == f"{tmp_path}/ring/missing"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    switch_link(f"{tmp_path}/link", "one")
    remove_all(f"{tmp_path}/link")
    assert stat_of(f"{tmp_path}/none/x") is None
    assert len(os.listdir("/proc/self/fd")) == before
