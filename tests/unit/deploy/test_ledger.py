"""Where a rollback goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voiceops.deploy.ledger import Ledger, LedgerEntry, deploys_in, from_elsewhere
from voiceops.errors import NotFoundError, UsageError
from voiceops.model.history import DeployRecord
from voiceops.remote.messages import LedgerLine, NoteReleases, RecordReleases
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.ledger import bad_releases, current_releases, release_history
from voiceops.remote.onhost.releases import append_entries, note_releases, record_releases


def ledger(*entries: tuple[str, str], current: str, gone: str = "") -> Ledger:
    history = [LedgerEntry(service="agent", release=release, result=result) for release, result in entries]
    present = sorted({release for release, _ in entries} - {gone})
    return Ledger(
        history=history, current={"agent": {"release": current, "digest": current}}, present=present
    )


def test_a_rollback_goes_to_the_last_good_release_before_the_current() -> None:
    assert ledger(("r1", "ok"), ("r2", "ok"), ("r3", "ok"), current="r3").previous("agent") == "r2"


def test_a_rollback_skips_releases_that_are_marked_bad() -> None:
    assert (
        ledger(("r1", "ok"), ("r2", "ok"), ("r2", "bad"), ("r3", "ok"), current="r3").previous("agent")
        == "r1"
    )


def test_a_bad_release_that_was_deployed_well_again_is_good() -> None:
    known = ledger(("r1", "ok"), ("r2", "bad"), ("r2", "ok"), ("r3", "ok"), current="r3")
    assert known.previous("agent") == "r2"


def test_a_release_whose_files_are_gone_is_no_way_back() -> None:
    with pytest.raises(NotFoundError):
        ledger(("r1", "ok"), ("r2", "ok"), current="r2", gone="r1").previous("agent")


def test_a_named_release_must_be_on_the_host() -> None:
    known = ledger(("r1", "ok"), ("r2", "ok"), current="r2")
    assert known.previous("agent", to="r1") == "r1"
    with pytest.raises(NotFoundError):
        known.previous("agent", to="r9")


def test_a_bad_release_is_gone_back_to_only_by_name_and_when_asked() -> None:
    known = ledger(("r1", "ok"), ("r1", "bad"), ("r2", "ok"), current="r2")
    with pytest.raises(NotFoundError):
        known.previous("agent")
    with pytest.raises(UsageError, match="r1 of agent was marked bad"):
        known.previous("agent", to="r1")
    assert known.previous("agent", to="r1", even_bad=True) == "r1"


def test_a_release_whose_mark_was_taken_back_is_not_chosen_either() -> None:
    known = ledger(("r1", "ok"), ("r2", "bad"), ("r2", "unproved"), ("r3", "ok"), current="r3")
    assert known.previous("agent") == "r1"


def test_before_a_failed_release_comes_the_current_one_and_else_the_last_good_one() -> None:
    assert ledger(("r1", "ok"), ("r2", "bad"), current="r1").before("agent", "r2") == "r1"
    assert ledger(("r1", "ok"), ("r2", "bad"), current="r2").before("agent", "r2") == "r1"
    assert ledger(("r1", "ok"), ("r1", "bad"), ("r2", "bad"), current="r1").before("agent", "r2") == ""
    assert ledger(("r2", "bad"), current="r2").before("agent", "r2") == ""


CHANNEL = Channel("")


def record(folder: Path, unproved: str) -> None:
    request: RecordReleases = {
        "state_dir": str(folder),
        "project": "frontdesk",
        "opt": str(folder),
        "etc": str(folder),
        "group": "daemon",
        "services": {"agent": {"release": "r1", "digest": "r1"}},
        "by": "ann",
        "action": "deploy",
        "unproved": unproved,
        "tidy": None,
    }
    record_releases(request, CHANNEL)


def test_what_is_recorded_as_unproved_is_current_and_not_good_until_it_is_proved(tmp_path: Path) -> None:
    state = str(tmp_path)
    record(tmp_path, "no agent joined")
    assert current_releases(state)["unproved"] == "no agent joined"
    assert release_history(state) == []
    record(tmp_path, "")
    assert "unproved" not in current_releases(state)
    assert [(one["release"], one["result"]) for one in release_history(state)] == [("r1", "ok")]
    assert (tmp_path / "current/agent").readlink() == Path("../releases/r1")


def test_the_last_word_on_a_release_says_whether_it_is_bad(tmp_path: Path) -> None:
    words = [("r1", "bad"), ("r2", "bad"), ("r1", "ok"), ("r3", "bad")]
    entries: list[LedgerLine] = [
        {"service": "agent", "release": name, "result": result} for name, result in words
    ]
    request: NoteReleases = {
        "state_dir": str(tmp_path),
        "project": "",
        "opt": "",
        "etc": "",
        "group": "",
        "entries": entries,
    }
    note_releases(request, CHANNEL)
    found = bad_releases(str(tmp_path), ["r1", "r2"])
    assert set(found) == {"r2"}
    assert found["r2"]["at"] > 0


def test_a_ledger_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    lines = [
        {"service": "agent", "release": "r1", "result": "ok", "host_id": 7},
        {"service": "agent", "result": "ok"},
        {"release": ["r"], "service": "agent", "result": "ok"},
        "text",
    ]
    (tmp_path / "releases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"ser')
    (tmp_path / "current.json").write_text(
        json.dumps({"services": {"agent": {"release": "r1", "digest": "d", "since": 3}, "odd": 7}, "at": 1})
    )
    state = str(tmp_path)
    assert release_history(state) == [lines[0]]
    assert current_releases(state)["services"] == {"agent": {"release": "r1", "digest": "d"}}
    append_entries(state, [{"service": "agent", "release": "r2", "result": "ok"}])
    assert release_history(state)[0] == lines[0], "what another version wrote is kept"


@pytest.mark.parametrize("text", ["[]", "7", "{}", '{"services": []}', "{"])
def test_what_is_current_can_be_damaged_without_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / "current.json").write_text(text)
    assert current_releases(str(tmp_path)) == {}


def entry(
    at: float, release: str, *, by: str, result: str = "ok", action: str = "deploy", why: str = ""
) -> LedgerEntry:
    return LedgerEntry(service="agent", release=release, result=result, at=at, by=by, action=action, why=why)


def test_deploys_of_other_machines_are_known_from_the_ledger_and_our_own_are_told_once() -> None:
    history = [
        entry(50.0, "r0", by="bob@two"),
        entry(130.0, "r1", by="ann@one"),
        entry(500.0, "r2", by="bob@two", result="bad", why="no voice"),
        entry(900.0, "r2", by="bob@two", result="bad", action="rollback", why="rolled back from"),
        entry(900.0, "r1", by="bob@two", action="rollback"),
    ]
    ours = DeployRecord(
        id="x", host="web1", at=100.0, action="deploy", ok=True, release="r1", by="ann@one", took_s=29.0
    )
    found = from_elsewhere(deploys_in(history, host="web1", since=100.0), [ours])
    assert [(one.at, one.action, one.ok, one.release, one.by, one.detail) for one in found] == [
        (500.0, "deploy", False, "r2", "bob@two", "no voice"),
        (900.0, "rollback", True, "r1", "bob@two", ""),
    ]
