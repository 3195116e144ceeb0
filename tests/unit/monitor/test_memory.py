"""What a monitor remembers survives its end, and a file that is damaged costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops.errors import StorageError
from voiceops.monitor.memory import MemoryFile, MonitorMemory, OpenIncident, ServiceMemory

INCIDENT = OpenIncident(
    incident="1-agent", cause="service-dead", sentence="agent: gone", fix="", began_at=5.0
)
MEMORY = MonitorMemory(
    boot="b1",
    services={"agent": ServiceMemory(restart_count=3, not_before=99.0, well_since=1.0, incident=INCIDENT)},
)


def test_the_next_monitor_goes_on_where_this_one_was(tmp_path: Path) -> None:
    MemoryFile(tmp_path / "monitor" / "memory.json").save(MEMORY)
    assert MemoryFile(tmp_path / "monitor" / "memory.json").load("b1") == MEMORY


def test_after_a_reboot_counts_and_incidents_stay_and_times_do_not(tmp_path: Path) -> None:
    MemoryFile(tmp_path / "memory.json").save(MEMORY)
    agent = MemoryFile(tmp_path / "memory.json").load("b2").services["agent"]
    assert (agent.restart_count, agent.incident, agent.not_before, agent.well_since) == (
        3,
        INCIDENT,
        0.0,
        None,
    )


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"services": 3}', b"\xff\xfe"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "memory.json").write_bytes(damage)
    assert MemoryFile(tmp_path / "memory.json").load("b1") == MonitorMemory(boot="b1")


def test_what_can_t_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match=r"memory\.json"):
        MemoryFile(tmp_path / "taken" / "memory.json").save(MEMORY)
