"""Whose a folder is, and who may read what is in it."""

from __future__ import annotations

import errno
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.resources.test_apply import Machine
from voiceops.adapters.process.local import LocalTransport
from voiceops.errors import ConfigError, StorageError
from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.disk import describe_failure, no_space
from voiceops.remote.onhost.tidy import environment_files, restrict_to_services
from voiceops.resources import Directory, File, Tree, Venv
from voiceops.resources.bare import _SCRIPT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the payload runs as root")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    transport = LocalTransport()
    yield Machine(transport, tmp_path)
    transport.close()


@pytest.fixture
def closed_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def access(path: Path) -> tuple[int, str]:
    found = path.lstat()
    return stat.S_IMODE(found.st_mode), pwd.getpwuid(found.st_gid).pw_name


def files_below(path: Path) -> list[Path]:
    return [path, *(one for one in path.rglob("*") if not one.is_symlink())]


def test_a_folder_with_content_and_without_a_mark_is_refused_before_anything_changed(
    machine: Machine, tmp_path: Path
) -> None:
    theirs = tmp_path / "opt"
    theirs.mkdir(mode=0o700)
    (theirs / "settings").write_text("theirs")
    first = File(path=machine.at("first"), content="x")
    folder = Directory(path=str(theirs), owner="root", mode=0o755, marks=[machine.at("mark")])
    for act in (machine.check, machine.apply):
        with pytest.raises(ConfigError, match=f"{theirs} is there already, and voiceops did not make it"):
            act(first, folder)
    assert not (tmp_path / "first").exists()
    assert access(theirs) == (0o700, "root")
    (theirs / ".voiceops").touch()
    machine.apply_twice(first, folder)
    (theirs / ".voiceops").unlink()
    (tmp_path / "mark").touch()
    machine.apply_twice(folder)


@pytest.mark.parametrize("litter", ["", "lost+found", ".mark.voiceops-tmp"])
def test_an_empty_folder_of_its_owner_is_taken(machine: Machine, tmp_path: Path, litter: str) -> None:
    (tmp_path / "opt" / litter).mkdir(parents=True)
    folder = Directory(path=machine.at("opt"), owner="root", mode=0o755, marks=[machine.at("mark")])
    machine.apply_twice(folder)
    os.chown(tmp_path / "opt", 1, 1)
    with pytest.raises(ConfigError):
        machine.apply(folder)


def test_a_state_folder_that_somebody_else_made_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/customers.db").touch()
    for act in (machine.check, machine.apply):
        with pytest.raises(ConfigError, match="voiceops did not make it"):
            act(File(path=machine.at("a"), content="x"))
    (tmp_path / "state/customers.db").unlink()
    machine.apply_twice(File(path=machine.at("a"), content="x"))


def test_a_check_leaves_an_empty_state_folder_empty(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "a").write_text("y")
    file = File(path=machine.at("a"), content="x")
    machine.check(file)
    assert list((tmp_path / "state").iterdir()) == []
    machine.apply_twice(file)


@pytest.mark.usefixtures("closed_umask")
def test_a_tree_and_an_environment_are_for_root_and_one_group_under_any_umask(
    machine: Machine, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    for name in ("a.py", "deep/run"):
        (source / name).write_text(name)
    (source / "a.py").chmod(0o600)
    (source / "deep/run").chmod(0o700)
    tree = Tree.of_folder(machine.at("tree"), source, owner="root", group="daemon", mode=0o750)
    uv = str(Path(sys.executable).with_name("uv"))  # pip in it would take 7 s
    venv = Venv(path=machine.at("venv"), requirements="", group="daemon", uv=uv)
    made = [tmp_path / "tree", Path(f"{machine.at('venv')}-{venv.digest}")]
    machine.apply_twice(tree, venv)

    def check() -> None:
        found = {access(path) for folder in made for path in files_below(folder)}
        assert found == {(0o750, "daemon"), (0o640, "daemon")}
        assert access(tmp_path / "tree/a.py") == (0o640, "daemon")
        assert access(tmp_path / "tree/deep/run") == (0o750, "daemon")
        subprocess.run([made[1] / "bin/python", "-c", ""], check=True, timeout=10)

    check()
    # As an older voiceops left them, by root's umask or readable for everybody.
    for modes in ("u=rwX,go=", "u=rwX,go=rX"):
        subprocess.run(["chmod", "-R", modes, *made], check=True, timeout=10)
        subprocess.run(["chgrp", "-R", "root", *made], check=True, timeout=10)
        report = machine.apply(tree, venv)
        assert [one.result for one in report.results] == ["changed", "changed"]
        assert machine.apply(tree, venv).changed == 0
        check()


def test_python_is_installed_under_a_umask_that_lets_others_use_it() -> None:
    assert _SCRIPT.index("umask 022") < _SCRIPT.index("apt-get")


@pytest.mark.parametrize("modes", ["u=rwX,go=rX", "u=rwX,go="])
def test_older_releases_are_for_the_services_and_what_is_not_ours_is_left_alone(
    tmp_path: Path, modes: str
) -> None:
    for name in ("r1/deep", "theirs"):
        (tmp_path / "releases" / name).mkdir(parents=True)
        (tmp_path / "releases" / name / "file").write_text("x")
    (tmp_path / "venvs/0123456789ab-0123456789ab").mkdir(parents=True)
    (tmp_path / "venvs/mine").mkdir()
    subprocess.run(["chmod", "-R", modes, tmp_path], check=True, timeout=10)
    theirs = [tmp_path / "releases/theirs/file", tmp_path / "venvs/mine"]
    before = [access(path) for path in theirs]
    restrict_to_services(str(tmp_path), "daemon", {"r1"})
    for path in (tmp_path / "releases/r1", tmp_path / "venvs/0123456789ab-0123456789ab"):
        assert {access(one) for one in files_below(path)} <= {(0o750, "daemon"), (0o640, "daemon")}
    assert [access(path) for path in theirs] == before


def test_environment_files_are_known_by_their_mark(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/r1.env").write_text('A="1"\nVOICEOPS_SERVICE="frontdesk/agent/r1"\n')
    (tmp_path / "agent/r1.2.env").symlink_to("r1.env")
    (tmp_path / "agent/r2.env").write_text('VOICEOPS_SERVICE="frontdesk-two/agent/r2"\n')
    (tmp_path / "agent/notes.env").write_text("A=1\n")
    (tmp_path / "agent/gone.env").symlink_to("nothing")
    found = environment_files(str(tmp_path), "frontdesk")
    assert {os.path.basename(path): release for path, release in found.items()} == {
        "r1.env": "r1",
        "r1.2.env": "r1",
    }


def test_an_error_without_a_name_never_ends_without_a_path() -> None:
    told = describe_failure(OSError(errno.ENOSPC, "No space left on device"))
    assert told["kind"] == "disk-full"
    assert told["error"].endswith("free on /")
    assert (
        describe_failure(OSError(errno.EACCES, "Permission denied", "/etc/x"))["error"]
        == "/etc/x: Permission denied"
    )


def test_a_disk_without_inodes_is_told_from_one_without_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    found = os.statvfs(tmp_path)
    fields = list(found)
    fields[7] = 0  # f_favail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    assert isinstance(no_space(full, str(tmp_path)), Failed)
    assert str(no_space(full, str(tmp_path))) == f"the disk is full: no inode free on {tmp_path}"


def test_a_full_state_folder_is_named_with_the_next_step(machine: Machine, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "small", state], check=True, timeout=10
    )
    try:
        (state / "fill").write_bytes(b"x" * 65536)
        with pytest.raises(StorageError, match=f"free on {state}") as full:
            machine.apply(File(path=machine.at("a"), content="x"))
        assert "free space there" in (full.value.hint or "")
    finally:
        subprocess.run(["umount", "--lazy", state], check=True, timeout=10)
