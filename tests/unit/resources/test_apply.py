"""The payload on this machine, in a folder of the test: every resource twice, the second time without a change."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from voiceops.adapters.process.local import LocalTransport
from voiceops.errors import HostError, LockedError, VoiceopsError
from voiceops.model.secret import Secret
from voiceops.resources import (
    Absent,
    Blob,
    Command,
    Content,
    Directory,
    File,
    HostReport,
    Lease,
    State,
    Symlink,
    Tree,
    Venv,
    apply,
    check,
    release_lock,
    take_lock,
)
from voiceops.resources.model import Resource

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the payload runs as root")


@dataclass(frozen=True)
class Here(State):
    """A state whose journal is in the test's folder."""

    place: str = ""

    @property
    def folder(self) -> str:
        return self.place


@dataclass(frozen=True)
class Machine:
    """This machine, seen through the payload."""

    transport: LocalTransport
    path: Path

    def state(self, *resources: Resource) -> Here:
        return Here("test", resources, place=str(self.path / "state"))

    def apply(self, *resources: Resource, diff: bool = False) -> HostReport:
        return apply(self.transport, self.state(*resources), diff=diff)

    def check(self, *resources: Resource, diff: bool = False) -> HostReport:
        return check(self.transport, self.state(*resources), diff=diff)

    def apply_twice(self, *resources: Resource) -> HostReport:
        """The first report, once a second run has changed nothing."""
        first = self.apply(*resources)
        first.raise_for_failure()
        second = self.apply(*resources)
        assert [(result.id, result.changes) for result in second.results if result.result != "ok"] == []
        assert self.check(*resources).as_declared
        return first

    def at(self, name: str) -> str:
        return str(self.path / name)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    transport = LocalTransport()
    yield Machine(transport, tmp_path)
    transport.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_made_with_its_content_and_mode(machine: Machine, tmp_path: Path) -> None:
    report = machine.apply_twice(File(path=machine.at("a"), content="x\n", mode=0o640, owner="nobody"))
    assert report.changed == 1
    assert (tmp_path / "a").read_text() == "x\n"
    assert (mode(tmp_path / "a"), (tmp_path / "a").owner()) == (0o640, "nobody")


def test_owner_and_mode_that_nobody_declares_stay(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    os.chown(tmp_path / "a", 65534, 1)
    (tmp_path / "a").chmod(0o604)
    machine.apply_twice(File(path=machine.at("a"), content="new"))
    found = (tmp_path / "a").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 1, 0o604)


def test_a_wrong_mode_alone_is_fixed_without_a_new_file(machine: Machine, tmp_path: Path) -> None:
    file = File(path=machine.at("a"), content="x", mode=0o600)
    machine.apply_twice(file)
    inode = (tmp_path / "a").stat().st_ino
    (tmp_path / "a").chmod(0o666)
    assert machine.apply(file).results[0].changes == ("mode 0666 -> 0600",)
    assert (tmp_path / "a").stat().st_ino == inode


@pytest.mark.parametrize("content", ["", "no newline", "ünïcödé $(id) `id` % ' \" \\\n", "\x00\x01"])
def test_hostile_content_arrives_unchanged(machine: Machine, tmp_path: Path, content: str) -> None:
    machine.apply_twice(File(path=machine.at("it's a $(file)"), content=content))
    assert (tmp_path / "it's a $(file)").read_bytes() == content.encode()


def test_a_file_never_replaces_a_folder_or_a_link(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("folder", "link"):
        report = machine.apply(File(path=machine.at(name), content=""))
        assert report.failed == f"file:{machine.at(name)}"
    assert os.readlink(tmp_path / "link") == "/etc/passwd"


def test_content_that_its_program_refuses_does_not_replace_the_old(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("good")
    refused = machine.apply(
        File(path=machine.at("a"), content="bad", validate=["grep", "-q", "good", "{file}"])
    )
    assert "refuses" in refused.results[0].error
    assert (tmp_path / "a").read_text() == "good"
    assert sorted(os.listdir(tmp_path)) == ["a", "state"]


def test_check_mode_shows_a_diff_and_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\ntwo\n")
    report = machine.check(
        File(path=machine.at("a"), content="one\n2\n"), Directory(path=machine.at("new")), diff=True
    )
    assert report.changed == 2
    assert "-two\n+2" in report.results[0].diff
    assert os.listdir(tmp_path) == ["a"]


def test_a_secret_is_in_no_diff_journal_or_blob_folder(machine: Machine, tmp_path: Path) -> None:
    text = "very-secret-" * 30_000
    file = File(path=machine.at("a"), content=Secret(text))
    report = machine.apply(file, diff=True)
    assert mode(tmp_path / "a") == 0o600
    assert report.results[0].diff == ""
    (tmp_path / "a").write_text("old-secret")
    assert machine.check(file, diff=True).results[0].diff == ""
    for found in (tmp_path / "state").rglob("*"):
        assert not found.is_file() or b"very-secret" not in found.read_bytes()


def test_a_directory_is_made_with_its_parents(machine: Machine, tmp_path: Path) -> None:
    machine.apply_twice(Directory(path=machine.at("a/b/c"), mode=0o750, group="daemon"))
    assert (mode(tmp_path / "a/b/c"), mode(tmp_path / "a/b")) == (0o750, 0o755)


def test_a_symlink_is_switched_and_never_replaces_a_file(machine: Machine, tmp_path: Path) -> None:
    machine.apply_twice(Symlink(path=machine.at("l"), target="one"))
    assert machine.apply_twice(Symlink(path=machine.at("l"), target="two")).changed == 1
    assert os.readlink(tmp_path / "l") == "two"
    (tmp_path / "file").touch()
    assert not machine.apply(Symlink(path=machine.at("file"), target="x")).ok


def test_what_must_be_absent_goes_with_all_that_is_in_it(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").touch()
    machine.apply_twice(Absent(path=machine.at("a")))
    assert not (tmp_path / "a").exists()


def test_a_big_blob_is_replaced_by_rename_while_it_runs(machine: Machine, tmp_path: Path) -> None:
    sleep = Path("/bin/sleep").read_bytes()
    (tmp_path / "source").write_bytes(sleep + bytes(1 << 20))
    binary = Blob(path=machine.at("bin"), source=tmp_path / "source", mode=0o755)
    machine.apply_twice(binary)
    with subprocess.Popen([machine.at("bin"), "100"]) as running:
        try:
            (tmp_path / "source").write_bytes(sleep + bytes(1 << 21))
            machine.apply_twice(binary)
            assert running.poll() is None
        finally:
            running.kill()
    assert os.listdir(tmp_path / "state/blobs") == []


def test_one_blob_in_two_places_is_two_files(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(1 << 20))
    two = [Blob(path=machine.at(name), source=tmp_path / "source") for name in ("one", "two")]
    machine.apply_twice(*two)
    assert (tmp_path / "one").stat().st_ino != (tmp_path / "two").stat().st_ino


def test_an_upload_goes_on_where_a_cut_one_stopped(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(1 << 20))
    blob = Blob(path=machine.at("bin"), source=tmp_path / "source")
    sha256 = blob.contents()[0].sha256
    (tmp_path / "state/blobs").mkdir(parents=True)
    (tmp_path / f"state/blobs/{sha256}.part").write_bytes((tmp_path / "source").read_bytes()[:700_000])
    sent: list[int] = []
    state = machine.state(blob)
    apply(
        machine.transport, state, on_event=lambda kind, data: sent.append(data.get("sent", 0))
    ).raise_for_failure()
    assert min(count for count in sent if count) > 700_000
    assert (tmp_path / "bin").read_bytes() == (tmp_path / "source").read_bytes()


@pytest.mark.parametrize("left", [b"garbage", bytes(700_000), b"longer than the whole" * 60_000])
def test_a_cut_upload_that_is_not_its_beginning_is_sent_from_the_start(
    machine: Machine, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(1 << 20))
    blob = Blob(path=machine.at("bin"), source=tmp_path / "source")
    sha256 = blob.contents()[0].sha256
    (tmp_path / "state/blobs").mkdir(parents=True)
    (tmp_path / f"state/blobs/{sha256}.part").write_bytes(left)
    machine.apply_twice(blob)
    assert (tmp_path / "bin").read_bytes() == (tmp_path / "source").read_bytes()


def test_a_file_that_changes_while_it_is_sent_is_noticed_and_thrown_away(
    machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(1 << 20))
    content = Content.of_file(tmp_path / "source")
    changed = Content(content.sha256, content.size, lambda: io.BytesIO(bytes(content.size)), "source")
    with pytest.raises(HostError, match="damaged"):
        machine.apply(Blob(path=machine.at("bin"), source=tmp_path / "source", content=changed))
    assert not (tmp_path / "bin").exists()
    machine.apply_twice(Blob(path=machine.at("bin"), source=tmp_path / "source"))


def test_a_tree_is_exactly_its_files(machine: Machine, tmp_path: Path) -> None:
    for name in ("a.py", "sub/b.py", ".hidden", "__pycache__/a.pyc"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    tree = Tree.of_folder(machine.at("release"), tmp_path / "source")
    machine.apply_twice(tree)
    release = tmp_path / "release"
    assert sorted(str(file.relative_to(release)) for file in release.rglob("*.*")) == ["a.py", "sub/b.py"]
    (release / "a.py").write_text("touched")
    (release / "extra.py").touch()
    assert machine.check(tree).results[0].changes == ("content a.py", "remove extra.py")
    machine.apply_twice(tree)


def test_commands_run_until_what_they_create_is_there(machine: Machine, tmp_path: Path) -> None:
    make = Command(
        name="make", argv=["sh", "-c", "echo run >> made"], creates=machine.at("made"), cwd=machine.at("")
    )
    machine.apply_twice(make)
    assert (tmp_path / "made").read_text() == "run\n"


def test_a_command_reacts_to_a_change_once(machine: Machine, tmp_path: Path) -> None:
    config = File(path=machine.at("a"), content="x")
    react = Command(name="react", argv=["sh", "-c", f"echo run >> {machine.at('log')}"], on_change=[config])
    machine.apply_twice(config, react)
    assert (tmp_path / "log").read_text() == "run\n"


def test_secrets_reach_a_command_by_stdin_and_environment(machine: Machine, tmp_path: Path) -> None:
    command = Command(
        name="login",
        argv=["sh", "-c", f'read line; echo "$line $TOKEN" > {machine.at("out")}'],
        creates=machine.at("out"),
        stdin=Secret("from-stdin\n"),
        env={"TOKEN": Secret("from-env")},
    )
    machine.apply_twice(command)
    assert (tmp_path / "out").read_text() == "from-stdin from-env\n"
    assert "from-" not in (tmp_path / "state/journal").read_text()


def test_check_mode_says_what_it_cannot_know(machine: Machine) -> None:
    config = File(path=machine.at("a"), content="x")
    command = Command(name="ask", argv=["true"], unless=["grep", "x", machine.at("a")], needs=[config])
    report = machine.check(config, command)
    assert [result.result for result in report.results] == ["changed", "unknown"]
    assert not report.as_declared


def test_the_first_failure_stops_the_rest_and_shows_its_cause(machine: Machine, tmp_path: Path) -> None:
    fails = Command(name="fails", argv=["sh", "-c", "echo the cause; exit 3"], creates=machine.at("never"))
    report = machine.apply(fails, File(path=machine.at("a"), content="x"))
    assert (report.failed, report.results[1].result) == ("command:fails", "skipped")
    assert report.results[0].log == ("the cause",)
    assert not (tmp_path / "a").exists()
    with pytest.raises(VoiceopsError, match="exited 3"):
        report.raise_for_failure()


def test_needs_come_first_whatever_the_order_of_the_list(machine: Machine, tmp_path: Path) -> None:
    folder = Directory(path=machine.at("d"))
    machine.apply_twice(File(path=machine.at("d/a"), content="x", needs=[folder]), folder)
    assert (tmp_path / "d/a").exists()


def test_a_half_made_environment_is_built_anew(machine: Machine, tmp_path: Path) -> None:
    venv = Venv(path=machine.at("venv"), requirements="")
    half = tmp_path / f"venv-{venv.digest}"
    (half / "bin").mkdir(parents=True)
    (half / "bin/python").touch()
    report = machine.apply_twice(venv)
    assert "rebuild what was left half made" in report.results[0].changes
    subprocess.run([machine.at("venv/bin/python"), "-c", "pass"], check=True, timeout=30)


def test_two_runs_at_once_never_mix(machine: Machine) -> None:
    config = File(path=machine.at("a"), content="x")
    slow = Command(name="slow", argv=["sleep", "1"], on_change=[config])
    started: list[str] = []

    def second(kind: str, data: object) -> None:
        if kind == "step" and "command:slow" in str(data):
            other = LocalTransport()
            try:
                with pytest.raises(LockedError, match="first deploy"):
                    apply(other, machine.state(config), lease=Lease(owner="second deploy"))
                started.append("refused")
            finally:
                other.close()

    state = machine.state(config, slow)
    apply(machine.transport, state, lease=Lease(owner="first deploy"), on_event=second).raise_for_failure()
    assert started == ["refused"]


def test_a_lock_is_held_over_several_runs_of_one_token(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = machine.at("state")
    monkeypatch.setattr("voiceops.remote.lease.state_folder", lambda project: place)
    lease = Lease(owner="ann", reason="maintenance")
    take_lock(machine.transport, "test", lease)
    with pytest.raises(LockedError, match=r"ann \(maintenance\)"):
        machine.apply()
    assert apply(machine.transport, machine.state(), lease=lease).ok
    take_lock(machine.transport, "test", lease)
    release_lock(machine.transport, "test", force=True)
    assert machine.apply().ok


def test_a_state_folder_that_others_can_write_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 65534, 65534)
    with pytest.raises(HostError, match="belongs to"):
        machine.apply(File(path=machine.at("a"), content="x"))


def test_owners_and_modes_in_a_tree_are_fixed_as_well(machine: Machine, tmp_path: Path) -> None:
    for name in ("a.py", "sub/deep/b.py"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    tree = Tree.of_folder(machine.at("release"), tmp_path / "source", owner="root")
    before = os.umask(0o077)
    try:
        machine.apply_twice(tree)
    finally:
        os.umask(before)
    release = tmp_path / "release"
    assert {stat.S_IMODE((release / name).stat().st_mode) for name in ("sub", "sub/deep")} == {0o755}
    os.chown(release / "a.py", 1, -1)
    (release / "sub").chmod(0o777)
    changes = machine.check(tree).results[0].changes
    assert [change.partition(":")[0] for change in changes] == ["a.py", "sub"]
    machine.apply_twice(tree)
    assert (release / "a.py").stat().st_uid == 0
