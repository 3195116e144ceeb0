"""The dashboard's feed: what it reads and prints, until nobody reads it any more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.unit.history.records import CALL, INCIDENT, REPAIR
from voiceops.commands.dashboard import room_rows, service_rows
from voiceops.commands.watch_sources import WatchedServices
from voiceops.history.store import HistoryStore
from voiceops.model.rooms import Room
from voiceops.model.states import ServiceState

INVENTORY = {
    "all": {
        "vars": {
            "project": "demo",
            "livekit": {"url": "ws://127.0.0.1:1", "api_key": "key", "api_secret": "s" * 32},
            "services": {"livekit": {"kind": "livekit"}},
        },
        "children": {"local": {"hosts": {"localhost": {"ansible_connection": "local"}}}},
    }
}


def watched(at: float, uptime_s: float | None) -> WatchedServices:
    service = {
        "state": ServiceState.READY,
        "pids": [1],
        "detail": "",
        "uptime_s": uptime_s,
        "restart_count": 0,
        "cpu_share": None,
        "memory_bytes": None,
        "release": "",
        "call_count": None,
        "draining": [],
        "draining_runs": [],
    }
    return WatchedServices(
        at=at,
        services={"agent": service},  # type: ignore[dict-item]
        call_count=None,
        agents={},
        knows_agents=True,
    )


def test_a_service_that_goes_on_does_not_change_with_its_uptime() -> None:
    first = service_rows("here", watched(1000.04, 10.0), {})
    assert first["here/agent"]["started_at"] == 990.0
    assert service_rows("here", watched(1001.1, 11.0), first) == first
    assert service_rows("here", watched(1005.0, 1.0), first)["here/agent"]["started_at"] == 1004.0
    assert service_rows("here", watched(1005.0, None), first)["here/agent"]["started_at"] is None


def test_rooms_of_one_name_are_told_apart_by_their_sid() -> None:
    rooms = (Room(name="a", sid="RM_1", num_participants=1), Room(name="a", sid="RM_2", created_at=5.0))
    assert room_rows("here", rooms, {"a": "agent"}) == {
        "here/RM_1": {"host": "here", "name": "a", "created_at": None, "people": 1, "agent": "agent"},
        "here/RM_2": {"host": "here", "name": "a", "created_at": 5.0, "people": 0, "agent": "agent"},
    }


@pytest.mark.parametrize("inventory", ["inventory.yaml", "missing.yaml"])
def test_it_prints_changes_and_ends_with_whoever_reads_them(tmp_path: Path, inventory: str) -> None:
    (tmp_path / "inventory.yaml").write_text(json.dumps(INVENTORY))
    store = HistoryStore(f"sqlite:///{tmp_path}/.voiceops/history.db")
    ended = msgspec.structs.replace(INCIDENT, id="ended", ended_at=200.0)
    records = [msgspec.structs.replace(one, host="localhost") for one in (CALL, INCIDENT, ended, REPAIR)]
    store.write(records)
    store.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "voiceops.commands.dashboard", str(tmp_path / inventory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        if inventory == "missing.yaml":
            assert b"missing.yaml" in process.stderr.read()
            assert process.wait(30) == 3
            return
        sections: dict[str, dict[str, dict[str, object]]] = {}
        while not sections.get("incidents") or not sections.get("services"):
            for name, change in json.loads(process.stdout.readline()).get("sections", {}).items():
                sections.setdefault(name, {}).update(change.get("rows", {}))
        assert set(sections["incidents"]) == {"incident", "ended"}
        assert sections["services"]["localhost/livekit"]["state"] == "missing"
        assert sections["stack"]["stack"]["project"] == "demo"
        process.stdout.close()
        assert process.wait(30) == 0
