"""What the live view reads: whatever hangs, breaks or is missing holds nothing else up."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from tests.support.stacks import stack_of
from tests.unit.history.records import CALL, CHECK, INCIDENT, REPAIR
from voiceops.commands import watch_sources
from voiceops.commands.watch_history import WatchedHistory, joined, read_history
from voiceops.commands.watch_sources import (
    Reading,
    RoomsReader,
    ServicesReader,
    Source,
    WatchSources,
    open_sources,
)
from voiceops.errors import UnreachableError
from voiceops.history.store import HistoryStore
from voiceops.kinds.model import Declared
from voiceops.model.history import CallRecord
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.monitor.memory import MEMORY_FILE, MemoryFile, MonitorMemory, OpenIncident, ServiceMemory
from voiceops.stack.model import Instance, Observed, Usage
from voiceops.stack.stack import Stack
from voiceops.wiring.project import Project

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


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "inventory.yaml").write_text(json.dumps(INVENTORY))
    return Project.load(inventory=str(tmp_path / "inventory.yaml"))


@pytest.fixture
def database(project: Project) -> Path:
    file = project.root / ".voiceops" / "history.db"
    now = time.time()
    answered = CallRecord(
        id="answered", host="localhost", kind="test", started_at=now, answer_s=0.4, outcome="answered"
    )
    left = CallRecord(id="left", host="localhost", kind="caller", started_at=now, outcome="abandoned")
    begun = CallRecord(id="begun", host="localhost", kind="caller", started_at=now)
    HistoryStore(f"sqlite:///{file}").write([answered, left, begun, CALL, CHECK, INCIDENT, REPAIR])
    return file


class Observing:
    """A backend that observes what it is told to."""

    def __init__(self, *instances: Instance) -> None:
        self.observed: Mapping[str, Observed] | Exception = {"agent": Observed(instances=instances)}

    def observe(self, services: object) -> Mapping[str, Observed]:
        if isinstance(self.observed, Exception):
            raise self.observed
        return self.observed


AGENT = Instance(
    service="agent",
    role=Role.AGENT,
    launch="1",
    pid=0,
    digest="d",
    state=ServiceState.READY,
    calls=1,
    rooms=("room",),
)


def stack_with(
    backend: Observing, folder: Path, uses: Callable[[], Usage] = lambda: Usage(cpu_s=0, memory_bytes=0)
) -> Stack:
    declared = Declared(name="agent", kind="agent", role=Role.AGENT, cwd=folder, argv=("x",), digest="d")
    return replace(stack_of(folder, declared), backend=backend, usage=lambda one: uses())  # type: ignore[arg-type]


def test_a_reading_that_hangs_holds_nothing_up(project: Project) -> None:
    hanging = threading.Event()
    began = time.monotonic()
    source = Source(lambda: hanging.wait(30), news=lambda: None)
    assert source.last() == Reading()
    source.close()
    assert time.monotonic() - began < 1
    hanging.set()


def test_an_error_takes_the_place_of_the_value_until_it_is_over() -> None:
    answers: Iterator[int] = iter([1])

    def read() -> int:
        value = next(answers, None)
        if value is None:
            raise UnreachableError("nobody answers")
        return value

    news = threading.Event()
    source = Source(read, news=news.set, outdated=lambda: True)
    until(lambda: source.last().error == "nobody answers")
    assert source.last().value is None
    assert news.is_set()
    source.close()


def test_pauses_grow_after_errors_up_to_a_limit_and_end_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_sources, "EVERY_S", 0.02)
    failing = True
    times: list[float] = []

    def read() -> int:
        times.append(time.monotonic())
        if failing:
            raise UnreachableError("nobody answers")
        return 1

    source = Source(read, news=lambda: None, share=1.0, patience_s=0.2)
    until(lambda: len(times) > 6)
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[1] >= 0.04
    assert min(pauses[4:6]) >= 0.2
    failing = False
    until(lambda: source.last().value == 1)
    count = len(times)
    time.sleep(0.15)
    assert len(times) >= count + 2
    source.close()


def test_a_bug_is_raised_where_it_is_shown() -> None:
    source = Source(lambda: 1 // 0, news=lambda: None)

    def raised() -> bool:
        try:
            source.last()
        except ZeroDivisionError:
            return True
        return False

    until(raised)


def test_what_costs_more_is_read_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_sources, "EVERY_S", 0.01)
    counts = {"cheap": 0, "dear": 0}

    def cheap() -> None:
        counts["cheap"] += 1

    def dear() -> None:
        counts["dear"] += 1
        ends_at = time.thread_time() + 0.01
        while time.thread_time() < ends_at:
            pass

    sources = [Source(read, news=lambda: None, share=0.01) for read in (cheap, dear)]
    time.sleep(0.8)
    for source in sources:
        source.close()
    assert counts["dear"] == 1
    assert counts["cheap"] > 10


def test_services_say_which_rooms_their_agents_serve(tmp_path: Path) -> None:
    reader = ServicesReader(lambda: stack_with(Observing(AGENT), tmp_path), host="localhost")
    read = reader.read()
    assert read.services["agent"]["state"] == "ready"
    assert read.agents == {"room": "agent"}
    assert read.knows_agents
    assert read.call_count == 1


def test_an_agent_that_does_not_answer_leaves_calls_and_rooms_unknown(tmp_path: Path) -> None:
    silent = replace(AGENT, calls=None, rooms=(), state=ServiceState.UNRESPONSIVE)
    read = ServicesReader(lambda: stack_with(Observing(silent), tmp_path), host="localhost").read()
    assert not read.knows_agents
    assert read.call_count is None


@pytest.mark.parametrize("there", [(), (replace(AGENT, calls=None, rooms=(), state=ServiceState.STARTING),)])
def test_an_agent_that_is_gone_or_begins_to_start_serves_no_room(
    tmp_path: Path, there: tuple[Instance, ...]
) -> None:
    read = ServicesReader(lambda: stack_with(Observing(*there), tmp_path), host="localhost").read()
    assert read.knows_agents
    assert read.agents == {}


def test_cpu_is_the_share_between_two_measurements(tmp_path: Path) -> None:
    now = 0.0
    spent = 0.0
    stack = stack_with(Observing(AGENT), tmp_path, lambda: Usage(cpu_s=spent, memory_bytes=7))
    reader = ServicesReader(lambda: stack, host="localhost", clock=lambda: now)
    assert reader.read().services["agent"]["cpu_share"] is None
    now, spent = 2.0, 1.0
    assert reader.read().services["agent"]["cpu_share"] is None  # not yet measured again
    now = 10.0
    assert reader.read().services["agent"]["cpu_share"] == 0.1


def test_a_connection_that_broke_is_made_anew(tmp_path: Path) -> None:
    opened: list[Observing] = []

    def open_stack() -> Stack:
        opened.append(Observing(AGENT))
        return stack_with(opened[-1], tmp_path)

    reader = ServicesReader(open_stack, host="web1")
    reader.read()
    opened[0].observed = UnreachableError("gone")
    with pytest.raises(UnreachableError):
        reader.read()
    assert reader.read().services["agent"]["state"] == "ready"
    assert len(opened) == 2


def test_a_process_that_is_gone_is_seen_before_the_next_reading_is_due(tmp_path: Path) -> None:
    memory = MemoryFile(tmp_path / "memory.json")
    backend = Observing(replace(AGENT, pid=2**22 + 1))
    here = ServicesReader(lambda: stack_with(backend, tmp_path), host="localhost", memory=memory)
    elsewhere = ServicesReader(lambda: stack_with(backend, tmp_path), host="web1")
    for reader in (here, elsewhere):
        reader.read()
    assert here.outdated()
    assert not elsewhere.outdated()  # its pids are another machine's


def test_open_incidents_come_from_the_monitor_s_own_memory(tmp_path: Path) -> None:
    memory = MemoryFile(tmp_path / MEMORY_FILE)
    opened = OpenIncident(incident="i", cause="service-dead", sentence="gone", fix="inv start", began_at=5.0)
    memory.save(MonitorMemory(services={"agent": ServiceMemory(incident=opened)}, silent=opened))
    read = ServicesReader(lambda: stack_with(Observing(), tmp_path), host="localhost", memory=memory).read()
    assert [(one.subject, one.cause) for one in read.incidents] == [
        ("agent", "service-dead"),
        ("", "service-dead"),
    ]
    (tmp_path / MEMORY_FILE).write_text("{")
    read = ServicesReader(lambda: stack_with(Observing(), tmp_path), host="localhost", memory=memory).read()
    assert read.incidents == ()


def test_rooms_that_can_not_be_listed_are_an_error(project: Project) -> None:
    from voiceops.wiring.stack import build_stack

    with pytest.raises(UnreachableError):
        RoomsReader(lambda: build_stack(project, project.hosts[0])).read()


def test_the_history_shows_calls_that_were_to_be_answered(project: Project, database: Path) -> None:
    read = read_history(project, ["localhost"])
    assert [one.id for one in read.calls] == ["answered"]
    assert read.incidents == ()
    assert [one.id for one in read_history(project, ["web1"]).incidents] == ["incident"]


def test_a_history_that_is_not_there_is_empty(project: Project) -> None:
    assert read_history(project, ["localhost"]).calls == ()


def test_what_a_server_and_this_machine_both_have_is_shown_once_and_the_oldest_first() -> None:
    early = msgspec.structs.replace(CALL, id="early", started_at=1.0, outcome="answered")
    here = WatchedHistory(calls=(CALL,), repairs=(REPAIR,))
    there = WatchedHistory(calls=(early, CALL), incidents=(INCIDENT,))
    both = joined([here, there])
    assert (both.calls, both.repairs, both.incidents) == ((early, CALL), (REPAIR,), (INCIDENT,))


def test_a_server_whose_history_can_not_be_read_leaves_that_of_this_machine(
    project: Project, database: Path
) -> None:
    def unreachable() -> WatchedHistory:
        raise UnreachableError("web1 can't be reached")

    sources = open_sources(project, lambda: None)
    away = Source(unreachable, news=lambda: None)
    sources = replace(sources, hosts=(replace(sources.hosts[0], history=away),))
    until(lambda: sources.last_history() != Reading())
    found = sources.last_history()
    assert found.error == "web1 can't be reached"
    assert found.value is not None
    assert [one.id for one in found.value.calls] == ["answered"]
    sources.close()


def _read(sources: WatchSources) -> None:
    until(lambda: sources.history.last() != Reading() and sources.hosts[0].services.last() != Reading())


def test_a_history_that_is_broken_leaves_the_services(project: Project, database: Path) -> None:
    database.write_bytes(b"no database" * 1000)
    for name in ("-wal", "-shm"):
        database.with_name(database.name + name).unlink(missing_ok=True)
    sources = open_sources(project, lambda: None)
    _read(sources)
    assert "can't be used" in sources.history.last().error
    found = sources.hosts[0].services.last().value
    assert found is not None
    assert found.services["livekit"]["state"] == "missing"
    sources.close()


def test_a_history_that_somebody_writes_is_read_meanwhile(project: Project, database: Path) -> None:
    with sqlite3.connect(database, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert [one.id for one in read_history(project, ["localhost"]).calls] == ["answered"]
        writer.execute("ROLLBACK")
    writer.close()
