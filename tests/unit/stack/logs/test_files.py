"""Rotation and merging of logs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from voiceops.errors import StorageError
from voiceops.stack.logs import files
from voiceops.stack.logs.files import (
    Follower,
    TimedLine,
    last_lines,
    merged,
    parse_since,
    rotate_running,
    rotate_stopped,
    time_of,
)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ('{"ts": 1795242912.5, "msg": "x"}', 1795242912.5),
        ('{"timestamp": "2026-11-21T06:35:12.500000+00:00"}', 1795242912.5),
        ('{"time": 1795242912500}', 1795242912.5),
        ("2026-11-21T06:35:12.5Z INFO x", 1795242912.5),
        ("[2026-11-21 06:35:12,500+00:00] x", 1795242912.5),
        ("Traceback (most recent call last):", None),
        ("{not json", None),
    ],
)
def test_the_time_of_a_line_is_read_from_json_or_its_beginning(text: str, at: float | None) -> None:
    assert time_of(text) == at


def test_lines_of_several_services_are_merged_by_time_and_tracebacks_stay_with_their_line(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.log").write_text("2026-01-01T00:00:01Z a1\nTraceback\n  File x\n2026-01-01T00:00:03Z a3\n")
    (tmp_path / "b.log").write_text(json.dumps({"timestamp": "2026-01-01T00:00:02Z", "m": "b2"}) + "\n")
    lines = merged([("a", tmp_path / "a.log", 5), ("b", tmp_path / "b.log", 5)])
    assert [line.service for line in lines] == ["a", "a", "a", "b", "a"]


def test_rotated_files_are_part_of_the_stream(tmp_path: Path) -> None:
    (tmp_path / "a.log.1").write_text("2026-01-01T00:00:01Z old\n")
    (tmp_path / "a.log").write_text("2026-01-01T00:00:02Z new\n")
    assert [line.text[-3:] for line in merged([("a", tmp_path / "a.log", 5)])] == ["old", "new"]


def test_a_log_over_its_limit_is_moved_aside_and_only_so_many_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for number in range(5):
        log.write_text(f"{number}" * 100)
        assert rotate_stopped(log, 50, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log.1", "a.log.2", "a.log.3"]
    assert (tmp_path / "a.log.1").read_text()[0] == "4"


def test_a_log_in_use_is_rotated_without_its_writer_noticing(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("a") as writer:
        writer.write("first\n" * 100)
        writer.flush()
        assert rotate_running(log, 50, 3)
        writer.write("second\n")
        writer.flush()
    assert log.read_text() == "second\n"
    assert (tmp_path / "a.log.1").read_text() == "first\n" * 100


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x")
    assert not rotate_stopped(tmp_path / "a.log", 50, 3)
    assert not rotate_running(tmp_path / "a.log", 50, 3)
    assert not rotate_running(tmp_path / "none.log", 50, 3)


def test_a_follower_sees_new_lines_through_rotation_by_rename_and_by_truncation(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("before\n")
    follower = Follower("a", log)
    with log.open("a") as writer:
        writer.write("one\nhal")
    assert [line.text for line in follower.read()] == ["one"]
    with log.open("a") as writer:
        writer.write("f\n")
    os.replace(log, tmp_path / "a.log.1")
    log.write_text("two\n")
    assert [line.text for line in follower.read()] == ["half", "two"]
    rotate_running(log, 0, 3)
    assert follower.read() == []
    with log.open("a") as writer:
        writer.write("three\n")
    assert [line.text for line in follower.read()] == ["three"]
    follower.close()


def test_a_follower_waits_for_a_file_that_does_not_exist_yet(tmp_path: Path) -> None:
    follower = Follower("a", tmp_path / "a.log")
    assert follower.read() == []
    (tmp_path / "a.log").write_text("one\n")
    assert [line.text for line in follower.read()] == ["one"]
    follower.close()


def test_the_last_lines_leave_out_what_was_there_before(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\n\nnew\n")
    assert last_lines(log, 4) == ("new",)
    assert last_lines(log, 10_000) == ("old", "new")
    assert last_lines(tmp_path / "none") == ()


def test_since_takes_spans_and_times() -> None:
    assert parse_since("10m", 1000.0) == 400.0
    assert parse_since("2026-11-21T06:35:12Z", 0.0) == 1795242912.0
    with pytest.raises(ValueError, match="neither"):
        parse_since("yesterday", 0.0)


def test_the_end_of_a_log_shows_of_a_traceback_the_line_that_says_it(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    trace = "Traceback (most recent call last):\n  File x\nOSError: address already in use"
    log.write_text(json.dumps({"message": "can't listen", "exc_info": trace}) + "\nplain words\n")
    assert last_lines(log) == ("can't listen: OSError: address already in use", "plain words")


def stamped(second: int, text: str = "x") -> str:
    return f"2026-01-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z {text}\n"


def test_only_what_is_close_to_the_window_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "a.log"
    for number in range(1, 4):
        old = tmp_path / f"a.log.{number}"
        old.write_text(stamped(0, "old") * 1000)
        os.utime(old, (time_of(stamped(0)), time_of(stamped(0))))  # type: ignore[arg-type]
    log.write_text("".join(stamped(second, "y" * 200) + "  trace\n" for second in range(20_000)))
    parsed = 0
    real = files._line

    def counted(raw: bytes, service: str, at: float) -> TimedLine:
        nonlocal parsed
        parsed += 1
        return real(raw, service, at)

    monkeypatch.setattr(files, "_line", counted)
    since = time_of(stamped(19_990))
    assert since is not None
    lines = list(merged([("a", log, 3)], since))
    assert [line.text for line in lines[::2]] == [
        stamped(second, "y" * 200).strip() for second in range(19_990, 20_000)
    ]
    assert parsed < 3_000  # of 43,000: less than two chunks


@pytest.mark.parametrize("size", [0, 10, 255_990, 256_000, 256_010, 600_000])
def test_the_window_begins_at_its_first_line_wherever_chunks_end(tmp_path: Path, size: int) -> None:
    log = tmp_path / "a.log"
    log.write_text(stamped(1, "before") + stamped(10, "z" * size) + stamped(11, "last"))
    shown = [line.text[21:] for line in merged([("a", log, 0)], time_of(stamped(10)) or 0.0)]
    assert shown == ["z" * size, "last"]


def test_a_log_in_which_nothing_is_stamped_is_read_whole(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("words\n" * 100_000)
    assert len(list(merged([("a", log, 0)]))) == 100_000


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"2026-01-01T00:00:01Z \xff\xfe\r\n")
    (line,) = merged([("a", tmp_path / "a.log", 0)])
    assert line.text.encode(errors="surrogateescape") == b"2026-01-01T00:00:01Z \xff\xfe\r"


def test_a_copy_that_fails_leaves_the_log_and_the_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "a.log"
    log.write_text("new" * 100)
    (tmp_path / "a.log.1").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(StorageError, match="No space left"):
        rotate_running(log, 50, 2)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.log": "new" * 100,
        "a.log.1": "old",
    }


def test_a_log_that_somebody_rotates_is_left_to_them(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("x" * 100)
    with log.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not rotate_running(log, 50, 2)
        assert not rotate_stopped(log, 50, 2)
    assert rotate_running(log, 50, 2)
