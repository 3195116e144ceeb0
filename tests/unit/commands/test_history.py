"""`inv history` over a real database: lists, hosts, CSV, picture, wrong flags."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.documents import problem
from tests.unit.history.records import ALL, CALL, DEPLOY, INCIDENT, REPAIR
from voiceops.cli.command import CommandRun, Report
from voiceops.cli.flags import HistoryFlags
from voiceops.commands.history import show_history
from voiceops.errors import ConfigError, UsageError
from voiceops.history.store import HistoryStore
from voiceops.wiring.history import record_history

EPOCH = "1970-01-01T00:00:00+00:00"
INVENTORY = """\
all:
  vars: {project: frontdesk}
  hosts: {localhost: {ansible_connection: local}, web1: {}, web2: {}}
"""


def as_json(report: Report) -> Any:
    """The document, which is as docs/json says."""
    assert problem("history.json", report.document) == ""
    return report.document


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    calls = [
        msgspec.structs.replace(CALL, id=f"call{index}", outcome=outcome, answer_s=answer_s, ended_at=160.0)
        for index, (outcome, answer_s) in enumerate(
            [("answered", 0.4), ("answered", 0.6), ("unanswered", None)]
        )
    ]
    HistoryStore(f"sqlite:///{tmp_path / '.voiceops' / 'history.db'}").write([*calls, CALL, *ALL[1:]])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_document_has_each_host_with_its_sums_and_lists(folder: Path) -> None:
    document = as_json(show_history(CommandRun(), HistoryFlags(since=EPOCH)))

    web1 = document["hosts"]["web1"]
    assert {
        key: web1[key]
        for key in ("call_count", "answered_count", "success", "answer_p50_s", "open_incident_count")
    } == {
        "call_count": 4,
        "answered_count": 2,
        "success": 0.6667,
        "answer_p50_s": 0.5,
        "open_incident_count": 1,
    }
    assert [len(web1[name]) for name in ("calls", "incidents", "repairs", "deploys")] == [4, 1, 1, 0]
    assert document["hosts"]["web2"]["deploys"][0]["release"] == DEPLOY.release


def test_a_host_and_a_list_that_are_named_are_all_there_is(folder: Path) -> None:
    document = as_json(show_history(CommandRun(host="web2"), HistoryFlags(since=EPOCH, deploys=True)))

    assert list(document["hosts"]) == ["web2"]
    assert "calls" not in document["hosts"]["web2"]


def test_nothing_recorded_is_no_error(folder: Path) -> None:
    report = show_history(CommandRun(), HistoryFlags(since="1h"))

    assert report.exit_code == 0
    assert as_json(report)["hosts"]["localhost"]["call_count"] == 0


def test_people_read_a_summary_and_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = show_history(CommandRun(), HistoryFlags(since=EPOCH))
    assert callable(report.text)
    report.text()

    lines = capsys.readouterr().out.splitlines()
    assert (
        "4 calls, 66.7% answered, heard after p50 0.50 s, p95 0.59 s, 1 incident (1 open), 1 repair"
        in lines[0]
    )
    shown = "\n".join(lines)
    assert INCIDENT.cause in shown
    assert f"{REPAIR.action} {REPAIR.subject}" in shown


def test_csv_has_one_line_for_each_record_and_nothing_that_a_spreadsheet_runs(folder: Path) -> None:
    evil = msgspec.structs.replace(CALL, id="evil", detail="=HYPERLINK(1)")
    HistoryStore(f"sqlite:///{folder / '.voiceops' / 'history.db'}").write([evil])
    show_history(CommandRun(), HistoryFlags(since=EPOCH, csv="calls.csv"))

    with open("calls.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert {row["detail"] for row in rows} == {"", "'=HYPERLINK(1)"}
    assert rows[0]["started_at"].endswith(":40+00:00") or "T" in rows[0]["started_at"]


def test_the_picture_shows_calls_and_shades_incidents(folder: Path) -> None:
    show_history(CommandRun(), HistoryFlags(since=EPOCH, plot="history.svg"))
    show_history(CommandRun(), HistoryFlags(since=EPOCH, plot="history.png"))

    picture = Path("history.svg").read_text()
    assert "2 of 3 calls answered" in picture
    assert picture.count("#f6dcd9") == 2  # one incident, in both parts
    assert picture.count("<path") == 1  # one failed call
    assert Path("history.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (HistoryFlags(since="yesterday"), "--since"),
        (HistoryFlags(plot="x.gif"), "--plot"),
        (HistoryFlags(csv="nosuch/x.csv"), "--csv"),
        (HistoryFlags(csv="x.csv", calls=True, repairs=True), "one list"),
    ],
)
def test_flags_that_make_no_sense_are_refused(folder: Path, flags: HistoryFlags, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        show_history(CommandRun(), flags)


@pytest.mark.parametrize("url", ["mysql://host/db", "{env: HISTORY_URL}"])
def test_a_url_of_another_database_is_refused_with_file_and_line(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTORY_URL", "mysql://host/db")
    quoted = url if url.startswith("{") else f"'{url}'"
    (folder / "inventory.yaml").write_text(
        INVENTORY.replace(
            "vars: {project: frontdesk}", f"vars:\n    project: frontdesk\n    history:\n      url: {quoted}"
        )
    )
    with pytest.raises(ConfigError, match=r"inventory\.yaml:5: .*postgresql://.*at history\.url"):
        show_history(CommandRun(), HistoryFlags())


def test_a_file_that_cannot_be_written_is_refused_with_file_and_line(folder: Path) -> None:
    (folder / "inventory.yaml").write_text(
        INVENTORY.replace("frontdesk}", "frontdesk, history: {url: 'sqlite:////nosuch/folder/history.db'}}")
    )
    with pytest.raises(ConfigError, match=r"inventory\.yaml:2: the history can't be written to /nosuch"):
        show_history(CommandRun(), HistoryFlags())


def test_what_cannot_be_recorded_is_said_and_the_command_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    run = CommandRun()
    (folder / ".voiceops" / "history.db").write_bytes(b"not a database " * 100)
    record_history(run.project, [DEPLOY], said.append)
    monkeypatch.setitem(sys.modules, "voiceops.history.store", None)  # as where Python has no sqlite3
    record_history(run.project, [DEPLOY], said.append)

    assert [line.startswith("note: not recorded in the history: ") for line in said] == [True, True]
