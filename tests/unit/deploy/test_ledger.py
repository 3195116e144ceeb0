"""Where a rollback goes."""

from __future__ import annotations

import pytest

from voiceops.deploy.ledger import Entry, Ledger
from voiceops.errors import NotFoundError


def ledger(*entries: tuple[str, str], current: str, gone: str = "") -> Ledger:
    history = [Entry(service="agent", release=release, result=result) for release, result in entries]
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
