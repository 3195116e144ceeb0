"""State files when several runs of one service are changed at once."""

from __future__ import annotations

from pathlib import Path

from voiceops.stack.records import Record, Records
from voiceops.stack.results import side_by_side


def test_runs_of_one_service_changed_side_by_side_are_all_kept_and_all_removed(tmp_path: Path) -> None:
    records = Records(tmp_path / "state")
    launches = [f"launch-{number}" for number in range(12)]

    def add(launch: str) -> None:
        records.update(Record(launch=launch, service="agent", kind="agent", digest="d"))

    side_by_side([lambda launch=launch: add(launch) for launch in launches])  # type: ignore[misc]
    assert sorted(one.launch for one in records.read("agent")[0]) == sorted(launches)
    side_by_side([lambda launch=launch: records.remove("agent", launch) for launch in launches])  # type: ignore[misc]
    assert records.read("agent") == ([], "")
