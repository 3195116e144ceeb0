"""What a server's monitor has recorded, read from the document of the server."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.unit.history.records import CALL, CHECK, DEPLOY, INCIDENT, REPAIR
from voiceops.cli.command import CommandRun
from voiceops.cli.flags import HistoryFlags
from voiceops.commands.history import show_history
from voiceops.deploy.host_history import read_history
from voiceops.history.select import HistoryPart, merged
from voiceops.history.store import HistoryStore, MostRooms

EPOCH = "1970-01-01T00:00:00+00:00"


def test_records_come_back_as_they_were_written_under_the_name_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = msgspec.structs.replace(
        CALL, ended_at=160.0, answer_s=0.25, outcome="failed", detail="no-agent", caller="abc"
    )
    incident = msgspec.structs.replace(INCIDENT, ended_at=170.0, sentence="is gone", fix="inv start")
    repair = msgspec.structs.replace(REPAIR, ok=False, error="no", attempt=3, took_s=1.5, reason="gone")
    (tmp_path / "inventory.yaml").write_text(
        "all: {vars: {project: frontdesk}, hosts: {localhost: {ansible_connection: local}}}\n"
    )
    store = HistoryStore(f"sqlite:///{tmp_path / '.voiceops' / 'history.db'}")
    store.write([call, incident, repair, CHECK, DEPLOY])
    monkeypatch.chdir(tmp_path)
    document = show_history(CommandRun(), HistoryFlags(since=EPOCH)).document
    part = read_history("other", b"warning: x\n" + msgspec.json.encode(document))
    assert (part.calls, part.incidents, part.repairs) == tuple(
        [msgspec.structs.replace(one, host="other")] for one in (call, incident, repair)
    )
    assert part.most == MostRooms(2, None, None)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "no answer"),
        (b"{broken", "no answer"),
        (b'{"ok": false, "error": {"message": "a newer schema"}}', "a newer schema"),
    ],
)
def test_a_server_that_cannot_read_it_says_why(said: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_history("web1", said)


def test_what_two_places_know_of_a_host_is_joined_by_time_and_each_record_once() -> None:
    early = msgspec.structs.replace(CALL, id="early", started_at=1.0)
    here = HistoryPart(calls=[CALL], deploys=[DEPLOY], most=MostRooms(3, None, 1))
    there = HistoryPart(calls=[CALL, early], most=MostRooms(2, 1, None))
    both = merged([here, there])
    assert (both.calls, both.deploys, both.most) == ([early, CALL], [DEPLOY], MostRooms(3, 1, 1))
    assert merged([]) == HistoryPart(calls=[], incidents=[], repairs=[], deploys=[])
