"""One call for all verbs: what fails is named, large answers are compressed, and programs are kept compiled."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from voiceops.adapters.process.local import LocalTransport
from voiceops.errors import DeadlineError, HostError, StorageError
from voiceops.ports import ProgramResult, RemoteProcess
from voiceops.remote import payload, verbs
from voiceops.remote.call import call
from voiceops.remote.messages import HostRequest, ListReleases
from voiceops.remote.onhost.channel import PACK_BYTES, Channel
from voiceops.remote.unit_messages import StartUnit

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="programs on hosts run as root")


@pytest.fixture
def transport() -> Iterator[LocalTransport]:
    with closing(LocalTransport()) as local:
        yield local


def releases(folder: Path, **changed: Any) -> ListReleases:
    request: Any = {
        "state_dir": str(folder),
        "project": "frontdesk",
        "opt": str(folder),
        "etc": str(folder),
        "group": "daemon",
        "will_record": False,
    }
    return request | changed  # type: ignore[no-any-return]


class Ending:
    """A way to a host on which each program ends at once."""

    name = "web1"

    def __init__(self, ended: ProgramResult, said: bytes = b"") -> None:
        self._ended = ended
        self._said = [said, b""]

    def start(self, argv: Sequence[str], *, root: bool = False) -> RemoteProcess:
        return self

    def write(self, data: bytes) -> None:
        """Take it."""

    def end_input(self) -> None:
        """Nothing more comes."""

    def read(self, silence_s: float) -> bytes:
        return self._said.pop(0)

    def wait(self) -> ProgramResult:
        return self._ended

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("verb", verbs.VERBS, ids=lambda verb: verb.name)
def test_the_error_of_a_program_that_broke_off_names_the_verb(verb: verbs.HostVerb[Any, Any]) -> None:
    way: Any = Ending(ProgramResult(3, stderr=b"Killed\n"), said=b"Welcome\n")
    with pytest.raises(HostError) as caught:
        call(way, verb, HostRequest(state_dir="/nonexistent"))
    assert caught.value.message == f"web1: {verb.doing} failed: it ended without an answer (exit 3)"
    assert caught.value.log_tail == ("Killed",)
    assert caught.value.retryable


def test_a_host_without_python_is_told_from_a_program_that_failed() -> None:
    way: Any = Ending(ProgramResult(127))
    with pytest.raises(HostError, match="web1: python3 is not installed") as caught:
        call(way, verbs.OBSERVE, HostRequest(state_dir="/nonexistent"))  # type: ignore[misc]
    assert caught.value.hint is not None
    assert "inv setup --host web1" in caught.value.hint


def test_what_the_host_refuses_is_named_with_its_cause(transport: LocalTransport, tmp_path: Path) -> None:
    request = StartUnit(state_dir=str(tmp_path), unit="no-such.service", instance="", twins=[], proof_name="")
    with pytest.raises(HostError, match=r"starting a unit failed: .*systemctl"):
        call(transport, verbs.START_UNIT, request)


def test_a_ledger_that_can_not_be_written_is_named_with_its_path(
    transport: LocalTransport, tmp_path: Path
) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(HostError, match=f"reading its releases failed: {missing}/.*No such file"):
        call(transport, verbs.LIST_RELEASES, releases(missing, will_record=True))


def test_a_full_disk_is_an_error_of_storage() -> None:
    mark = b'["error",{"kind":"disk-full","message":"the disk is full: 0 bytes free on /var"}]'
    way: Any = Ending(ProgramResult(0))

    def start(argv: Sequence[str], *, root: bool = False) -> Any:
        way._said = [f"\n{argv[3]}".encode() + mark + b"\n", b""]
        return way

    way.start = start
    with pytest.raises(StorageError, match="web1: the disk is full"):
        call(way, verbs.LIST_RELEASES, releases(Path("/var")))


def test_an_answer_of_megabytes_arrives_whole(transport: LocalTransport, tmp_path: Path) -> None:
    entry = '{"service": "agent", "release": "r%d", "result": "ok", "why": "%s"}\n'
    lines = [entry % (number, "x" * 2000) for number in range(1000)]
    (tmp_path / "releases.jsonl").write_text("".join(lines))
    answer = call(transport, verbs.LIST_RELEASES, releases(tmp_path))
    assert [one["release"] for one in answer["history"]] == [f"r{number}" for number in range(1000)]


def test_long_frames_are_compressed_and_short_ones_readable(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    for length in (10, 10 * PACK_BYTES):
        Channel("@@").send("done", "x" * length)
    short, long = capfdbinary.readouterr().out.split(b"\n\n")
    assert b'@@["done", "xxxxxxxxxx"]' in short
    assert b'@@["packed", ' in long
    assert len(long) < PACK_BYTES


def test_a_host_that_stays_silent_is_given_up_after_the_time_of_the_call() -> None:
    class Silent(Ending):
        def read(self, silence_s: float) -> bytes:
            assert silence_s == 0.5
            raise DeadlineError("web1: no sign of life for 0.5 s")

    way: Any = Silent(ProgramResult(0))
    with pytest.raises(DeadlineError):
        call(way, verbs.FACTS, HostRequest(state_dir="/nonexistent"), timeout_s=0.5)


def test_each_program_is_kept_compiled_and_older_ones_go(transport: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "format").write_text("1")
    others = ["payload-0123456789ab-311", "look-0123456789ab-311", "payload-services-0123456789ab-311"]
    for name in (*others, "payload-check-0123456789ab-311", "payload-notes"):
        (tmp_path / name).write_text("old")
    call(transport, verbs.LIST_RELEASES, releases(tmp_path))
    version, _ = payload.packed("services")
    (kept,) = tmp_path.glob("payload-services-*")
    assert kept.name.startswith(f"payload-services-{version}-3")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"format", kept.name, "payload-check-0123456789ab-311", "payload-notes"}
    os.utime(kept, (7, 7))
    call(transport, verbs.LIST_RELEASES, releases(tmp_path))
    assert kept.stat().st_mtime == 7, "it was taken, not written again"


def test_a_folder_that_is_not_marked_as_ours_gets_no_cache(transport: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    call(transport, verbs.LIST_RELEASES, releases(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
