"""What a killed run leaves behind, and what the next one makes of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from voiceops.remote.onhost.base import PAYLOAD_FORMAT, Failed
from voiceops.remote.onhost.hashes import Hashes
from voiceops.remote.onhost.journal import JOURNAL_LIMIT, Journal
from voiceops.remote.onhost.lock import Lock
from voiceops.remote.onhost.state_folder import check_format, read_lease


def reopened(folder: Path) -> Journal:
    return Journal(str(folder), readonly=True)


def begun(folder: Path) -> Journal:
    journal = Journal(str(folder), readonly=False)
    journal.begin({"owner": "test"})
    return journal


def test_a_unit_stays_due_until_it_has_restarted(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.intent("file:/etc/a", ["unit:a.service"])
    journal.done("file:/etc/a")
    assert reopened(tmp_path).pending == {"unit:a.service": {"file:/etc/a"}}
    journal.intent("unit:a.service", ["unit:a.service"])
    assert "unit:a.service" in reopened(tmp_path).pending
    journal.done("unit:a.service")
    assert reopened(tmp_path).pending == {}


def test_a_step_that_never_ended_is_known(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.intent("venv:/srv/v")
    assert reopened(tmp_path).interrupted == {"venv:/srv/v"}


def test_a_line_that_a_crash_cut_off_hides_nothing(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.intent("file:/etc/a", ["unit:a.service"])
    with (tmp_path / "journal").open("a") as file:
        file.write('{"done": "unit:a.ser')
    begun(tmp_path).done("file:/etc/a")
    assert reopened(tmp_path).pending == {"unit:a.service": {"file:/etc/a"}}
    assert reopened(tmp_path).interrupted == set()


def test_a_long_journal_shrinks_to_what_is_still_due(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.intent("file:/etc/a", ["unit:a.service"])
    journal.done("file:/etc/a")
    with (tmp_path / "journal").open("a") as file:
        file.write((json.dumps({"done": "file:/x" * 100}) + "\n") * (JOURNAL_LIMIT // 700 + 1))
    begun(tmp_path)
    assert (tmp_path / "journal").stat().st_size < 1000
    assert reopened(tmp_path).pending == {"unit:a.service": {"file:/etc/a"}}


def test_a_state_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "format").write_text(str(PAYLOAD_FORMAT))
    check_format(str(tmp_path))
    (tmp_path / "format").write_text(str(PAYLOAD_FORMAT + 1))
    with pytest.raises(Failed, match="format"):
        check_format(str(tmp_path))


def take(folder: Path, **options: Any) -> Lock:
    request: Any = {"owner": "ann", "reason": "test", "token": "one", **options}
    lock = Lock(str(folder), request)
    lock.take(lambda holder: None, lambda: None)
    return lock


def test_a_second_run_learns_who_holds_the_lock(tmp_path: Path) -> None:
    lock = take(tmp_path)
    with pytest.raises(Failed) as caught:
        take(tmp_path, owner="bob", token="two")
    assert caught.value.kind == "locked"
    assert json.loads(caught.value.message)["owner"] == "ann"
    lock.release()
    take(tmp_path, token="two").release()


def test_a_held_lease_lets_its_own_token_in_and_nobody_else(tmp_path: Path) -> None:
    take(tmp_path, hold=True).release()
    with pytest.raises(Failed, match="ann"):
        take(tmp_path, token="two")
    take(tmp_path, token="one").release()
    take(tmp_path, token="two").release()


def test_a_lease_runs_out(tmp_path: Path) -> None:
    take(tmp_path, hold=True, lease_s=-1).release()
    take(tmp_path, token="two").release()


def test_a_lease_of_before_a_reboot_counts_no_more(tmp_path: Path) -> None:
    take(tmp_path, hold=True).release()
    lease = json.loads((tmp_path / "lock").read_text())
    (tmp_path / "lock").write_text(json.dumps(lease | {"boot": "another"}))
    take(tmp_path, token="two").release()


def test_force_takes_a_lease_that_is_nobodys_any_more(tmp_path: Path) -> None:
    take(tmp_path, hold=True).release()
    take(tmp_path, token="two", force=True).release()


def test_lines_of_another_version_are_skipped_and_the_others_count(tmp_path: Path) -> None:
    lines = [{"version": 9}, ["a"], 7, None, {"intent": "file:/a", "wakes": ["unit:a.service"], "more": 1}]
    (tmp_path / "journal").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert reopened(tmp_path).pending == {"unit:a.service": {"file:/a"}}


@pytest.mark.parametrize("text", ["[]", "7", '{"owner": "ann"}', '{"expires": 1}', "null", "", "{"])
def test_a_lease_that_makes_no_sense_holds_nobody_up(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert read_lease(str(tmp_path / "lock")) is None


@pytest.mark.parametrize("text", ["[]", "7", '{"/a": {"sha256": "0"}}', "{"])
def test_remembered_hashes_of_another_version_are_forgotten(tmp_path: Path, text: str) -> None:
    (tmp_path / "hashes").write_text(text)
    file = tmp_path / "big"
    file.write_bytes(b"x" * (2 << 20))
    found = Hashes(str(tmp_path)).sha256(str(file), file.stat())
    assert found == hashlib.sha256(b"x" * (2 << 20)).hexdigest()
