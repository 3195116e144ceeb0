"""The loop over a stack that only pretends: what it records, what it survives, when it acts."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.fakes.livekit_api import FakeLivekitApi
from tests.support.fakes.recorder import KeepingRecorder
from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import ProcessKey
from voiceops.errors import LockedError, ServiceError, UnreachableError, VoiceopsError
from voiceops.metrics.recorder import MetricsRecorder
from voiceops.model.findings import Diagnosis, Finding, Fix
from voiceops.model.monitor_events import CheckSummary, Incident, ProbeCall, Repair, WebhookEvent
from voiceops.model.roles import Role
from voiceops.model.rooms import Participant, Room
from voiceops.model.settings import RoomsSettings
from voiceops.model.states import ServiceState
from voiceops.monitor.decide import Moment, ServiceObservation, ServiceRepair
from voiceops.monitor.diagnosing import Diagnosing
from voiceops.monitor.local_stack import MonitoredStack, StackObservation
from voiceops.monitor.loop import SUMMARY_EVERY, Monitor
from voiceops.monitor.memory import MemoryFile
from voiceops.monitor.rooms import RoomKeeper
from voiceops.monitor.watched_stack import Watched
from voiceops.rooms.watcher import LostWorkers
from voiceops.stack.model import Instance


class PretendedStack(MonitoredStack):
    """One agent, in whatever state a test says."""

    def __init__(self) -> None:
        self.state = ServiceState.READY
        self.holder = ""
        self.repaired: list[str] = []
        self.errors: list[VoiceopsError] = []
        self.changes = 0
        self.looks = 0
        self.full = ""
        self.agents: tuple[Instance, ...] = ()
        self.processes: dict[str, ProcessKey] = {}
        self.lost: LostWorkers | None = None

    def version(self) -> int:
        return self.changes

    def held_by(self) -> str:
        return self.holder

    def observe(self) -> StackObservation:
        self.looks += 1
        if self.errors and isinstance(self.errors[0], UnreachableError):
            raise self.errors.pop(0)
        return StackObservation(
            services=(ServiceObservation(name="agent", state=self.state),),
            agents=self.agents,
            processes=self.processes,
        )

    def repair(self, repairs: Sequence[ServiceRepair]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.repaired += [one.service for one in repairs]
        self.state = ServiceState.READY

    def server_may_answer(self) -> bool:
        return True

    def crowded(self) -> str:
        return self.full

    def lost_workers(self, until: float, unassigned_until: float = 0.0) -> LostWorkers | None:
        return self.lost


class PretendedDiagnoser:
    """Finds what a test says, and keeps what it was asked to repair."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.looks = 0
        self.repaired: list[str] = []
        self.failure = ""

    async def diagnose(self, rooms: Sequence[Room]) -> Diagnosis:
        self.looks += 1
        return Diagnosis(findings=tuple(self.found), complete=True)

    def repair(self, findings: Sequence[Finding]) -> tuple[str, ...]:
        self.repaired += [one.rule for one in findings]
        if not self.failure:
            self.found = []
        return (self.failure,) * len(findings)


STUCK = Finding(
    rule="worker-drain-stuck",
    sentence="Its drain never ends.",
    evidence=("no answer",),
    fixes=(Fix(command="inv start --only agent", action="start", service="agent"),),
    service="agent",
)


class Setting:
    """A monitor with everything around it."""

    def __init__(self, folder: Path, interval_s: float = 0.01) -> None:
        self.stack = PretendedStack()
        self.api = FakeLivekitApi()
        self.recorder = KeepingRecorder()
        self.said: list[str] = []
        keeper = RoomKeeper(
            self.api,
            settings=RoomsSettings(),
            agent_names=("",),
            memory=folder / "seen.json",
            say=lambda action, room, reason, error="": self.said.append(action),
        )
        self.watched = Watched(
            host="here", stack=self.stack, rooms=keeper, all_workers_here=False, interval_s=interval_s
        )
        self.monitor = Monitor(
            watched=self.watched,
            memory_file=MemoryFile(folder / "memory.json"),
            recorder=self.recorder,
            say=self.said.append,
            boot="b1",
        )

    async def run_for(self, seconds: float) -> None:
        task = asyncio.ensure_future(self.monitor.run())
        await asyncio.sleep(seconds)
        self.monitor.stop()
        await asyncio.wait_for(task, 5)

    async def run_until(self, seen: Callable[[], bool]) -> None:
        task = asyncio.ensure_future(self.monitor.run())
        ends_at = time.monotonic() + 20.0
        while not seen() and time.monotonic() < ends_at:  # noqa: ASYNC110 - it may be anything that is recorded
            await asyncio.sleep(0.01)
        self.monitor.stop()
        await asyncio.wait_for(task, 5)

    def of(self, kind: type) -> list[object]:
        return [one for one in self.recorder.events if isinstance(one, kind)]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


async def test_a_dead_service_is_repaired_once_and_all_of_it_is_recorded(setting: Setting) -> None:
    setting.stack.state = ServiceState.STALE
    await setting.run_until(
        lambda: len(setting.of(CheckSummary)) > SUMMARY_EVERY and len(setting.of(Incident)) == 2
    )
    assert setting.stack.repaired == ["agent"]
    (repair,) = setting.of(Repair)
    begun, ended = setting.of(Incident)
    assert isinstance(repair, Repair)
    assert isinstance(begun, Incident)
    assert isinstance(ended, Incident)
    assert (repair.ok, repair.incident, begun.incident) == (True, begun.incident, ended.incident)
    assert ended.ended_at is not None
    assert len(setting.of(CheckSummary)) > SUMMARY_EVERY
    assert any("checks: agent ready" in line for line in setting.said)


async def test_while_somebody_holds_the_lock_it_says_so_and_does_nothing(setting: Setting) -> None:
    setting.stack.state, setting.stack.holder = ServiceState.STALE, "inv deploy"
    await setting.run_until(lambda: len(setting.of(CheckSummary)) > 3)
    assert (setting.stack.repaired, setting.of(Incident), setting.of(Repair)) == ([], [], [])
    assert [line for line in setting.said if "not acting" in line] == [
        "not acting: inv deploy holds the lock"
    ]


@pytest.fixture
def frozen() -> Iterator[ProcessKey]:
    with subprocess.Popen(["sleep", "60"]) as child:
        child.send_signal(signal.SIGSTOP)
        found = processes.find(child.pid)
        assert found is not None
        yield found.key
        child.kill()


async def test_a_frozen_service_is_not_checked_over_and_over_while_somebody_holds_the_lock(
    tmp_path: Path, frozen: ProcessKey
) -> None:
    setting = Setting(tmp_path, interval_s=60.0)
    setting.stack.holder = "inv deploy"
    setting.stack.processes = {"agent": frozen}
    await setting.run_for(2.0)
    assert setting.stack.looks == 1


async def test_a_lock_that_was_taken_meanwhile_costs_no_attempt(setting: Setting) -> None:
    setting.stack.state = ServiceState.STALE
    setting.stack.errors = [LockedError("another command holds the lock")]
    await setting.run_until(lambda: not setting.stack.errors)
    assert setting.of(Repair) == []
    assert setting.monitor.memory.services["agent"].restart_count == 0


async def test_a_repair_that_fails_is_recorded_with_its_reason(setting: Setting) -> None:
    setting.stack.state = ServiceState.STALE
    setting.stack.errors = [ServiceError("agent ended before it was ready (exit 3)")]
    await setting.run_until(lambda: bool(setting.of(Repair)))
    (repair,) = setting.of(Repair)
    assert isinstance(repair, Repair)
    assert (repair.ok, "exit 3" in repair.error) == (False, True)


async def test_a_check_that_fails_is_not_the_end_of_the_monitor(setting: Setting) -> None:
    setting.stack.errors = [UnreachableError("the process table can't be read")]
    await setting.run_until(lambda: bool(setting.of(CheckSummary)))
    assert any("the check failed" in line for line in setting.said)
    assert setting.of(CheckSummary)


async def test_a_silent_livekit_is_an_incident_and_nothing_is_done_to_rooms(setting: Setting) -> None:
    setting.api.put("empty", age_s=9000)
    setting.api.failures["list_rooms"] = [UnreachableError("503") for _ in range(1000)]
    await setting.run_until(lambda: bool(setting.of(Incident)))
    (incident,) = setting.of(Incident)
    assert isinstance(incident, Incident)
    assert incident.cause == "livekit-unreachable"
    assert set(setting.api.rooms) == {"empty"}


async def test_who_waited_while_monitor_and_worker_were_away_gets_an_agent_at_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting.api.put("waits", Participant(identity="alice", joined_at=time.time() - 5.0), age_s=5.0)
    registered_at = time.time() + 0.1
    monkeypatch.setattr(setting.stack, "registered_at", lambda: registered_at)
    setting.stack.lost = LostWorkers(until=registered_at)
    setting.watched.all_workers_here = True
    setting.stack.holder = "inv start"
    freed: list[float] = []

    def dispatched() -> bool:
        if not freed and len(setting.of(CheckSummary)) > 20:
            assert "dispatch" not in setting.said, "whoever holds the lock goes first"
            setting.stack.holder = ""
            freed.append(time.monotonic())
        return "dispatch" in setting.said

    await setting.run_until(dispatched)
    assert time.monotonic() - freed[0] < 8.0, "before it would be lost by its age"


async def test_it_ends_when_the_configuration_is_another_one(setting: Setting) -> None:
    setting.monitor.outdated = lambda: True
    await asyncio.wait_for(setting.monitor.run(), 5)
    assert any("the configuration has changed" in line for line in setting.said)


async def test_webhooks_are_recorded_and_change_nothing_by_themselves(setting: Setting) -> None:
    for number in range(50):
        setting.monitor.on_webhook(
            WebhookEvent(
                at=0.0, host="here", delivery=str(number), kind="participant_left", room="no such room"
            )
        )
    await setting.run_until(lambda: len(setting.of(WebhookEvent)) == 50)
    assert len(setting.of(WebhookEvent)) == 50
    assert setting.stack.repaired == []


async def test_a_probe_is_not_placed_while_no_agent_is_ready(setting: Setting) -> None:
    async def place() -> ProbeCall:
        raise AssertionError("nobody could answer it")

    setting.watched.probe, setting.watched.probe_every_s = place, 0.01
    await setting.run_for(0.1)
    assert setting.of(ProbeCall) == []


async def test_it_says_once_why_no_probe_is_placed(setting: Setting) -> None:
    placed: list[float] = []

    async def place() -> ProbeCall:
        placed.append(0.0)
        return ProbeCall(at=0.0, host="here", ok=True)

    setting.watched.probe, setting.watched.probe_every_s = place, 0.01
    setting.stack.agents = (
        Instance(service="agent", role=Role.AGENT, launch="1", pid=1, digest="d", state=ServiceState.READY),
    )
    setting.stack.full = "agent is full"
    await setting.run_until(lambda: len(setting.of(CheckSummary)) > 3)
    assert placed == []
    assert [line for line in setting.said if "probe" in line] == ["no probe call as long as agent is full"]


async def test_ten_thousand_checks_hold_no_more_than_a_thousand(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1e6
    monkeypatch.setattr("voiceops.monitor.loop.moment_now", lambda: Moment(boot_s=now_s, epoch_s=now_s))
    monkeypatch.setattr("voiceops.monitor.loop.WEBHOOK_PAUSE_S", 0.0)
    setting.recorder.events = deque(maxlen=10)  # type: ignore[assignment]
    metrics = MetricsRecorder("here")
    held = []
    for number in range(10_001):
        now_s += 30.0
        if number % 1000 == 0:
            gc.collect()
            held.append(sys.getallocatedblocks())
        # Each check meets another room with a call in it, and its webhooks; now and then the agent has died.
        for everything in (
            setting.api.rooms,
            setting.api.participants,
            setting.api.dispatches,
            setting.api.calls,
        ):
            everything.clear()
        setting.api.put(f"r{number}", Participant(identity="caller", sid=f"P{number}", joined_at=now_s))
        for kind in ("participant_joined", "track_published", "participant_left"):
            told = WebhookEvent(
                at=now_s,
                host="here",
                delivery=f"{kind}{number}",
                kind=kind,
                room=f"r{number}",
                room_sid=f"RM_{number}",
                participant_sid=f"P{number}",
            )
            setting.monitor.on_webhook(told)
            metrics.record(told)
        if number % 100 == 0:
            setting.stack.state = ServiceState.STALE
        await setting.monitor.check()
        setting.said.clear()
        setting.stack.repaired.clear()
    assert held[-1] - held[1] < 0.05 * held[1], held


async def test_a_service_that_a_person_starts_is_looked_at_at_once(tmp_path: Path) -> None:
    setting = Setting(tmp_path, interval_s=300.0)

    def looked_again() -> bool:
        setting.stack.changes = min(setting.stack.looks, 1)
        return setting.stack.looks > 1

    await setting.run_until(looked_again)
    assert setting.stack.looks == 2


@pytest.fixture
def diagnoser(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> PretendedDiagnoser:
    monkeypatch.setattr("voiceops.monitor.diagnosing.PAUSE_S", 0.0)
    monkeypatch.setattr("voiceops.monitor.findings.SURE_AFTER_S", 0.0)
    monkeypatch.setattr("voiceops.monitor.findings.REPAIR_AFTER_S", 0.05)
    one = PretendedDiagnoser()
    setting.watched.diagnosing = Diagnosing(one, "here")
    return one


async def test_a_finding_with_a_safe_fix_is_repaired_once_and_recorded_with_its_incident(
    setting: Setting, diagnoser: PretendedDiagnoser
) -> None:
    diagnoser.found = [STUCK]
    await setting.run_until(lambda: len(setting.of(Incident)) == 2 and bool(setting.of(Repair)))
    (repair,) = setting.of(Repair)
    begun, ended = setting.of(Incident)
    assert isinstance(repair, Repair)
    assert isinstance(begun, Incident)
    assert isinstance(ended, Incident)
    assert diagnoser.repaired == ["worker-drain-stuck"]
    assert (repair.action, repair.subject, repair.reason) == ("start", "agent", "Its drain never ends.")
    assert (repair.ok, repair.incident) == (True, begun.incident)
    assert (begun.fix, begun.incident, ended.ended_at is None) == (
        "inv start --only agent",
        ended.incident,
        False,
    )
    checks = setting.of(CheckSummary)
    assert [one.ok for one in (checks[1], checks[-1]) if isinstance(one, CheckSummary)] == [False, True]


async def test_findings_wait_while_somebody_holds_the_lock_and_one_check_only_tells_of_them(
    setting: Setting, diagnoser: PretendedDiagnoser
) -> None:
    diagnoser.found, setting.stack.holder = [STUCK], "inv deploy"
    await setting.run_until(lambda: diagnoser.looks > 20)
    assert (diagnoser.repaired, setting.of(Incident)) == ([], [])
    setting.stack.holder = ""
    for _ in range(5):
        await setting.monitor.check(act=False)
    assert (diagnoser.repaired, setting.of(Incident)) == ([], [])
    assert setting.monitor.errors == (STUCK,)


async def test_a_fix_that_fails_is_recorded_with_its_reason_and_not_repeated_at_once(
    setting: Setting, diagnoser: PretendedDiagnoser
) -> None:
    diagnoser.found, diagnoser.failure = [STUCK], "3 calls would end"
    await setting.run_until(lambda: bool(setting.of(Repair)) and diagnoser.looks > 40)
    (repair,) = setting.of(Repair)
    assert isinstance(repair, Repair)
    assert (repair.ok, repair.error) == (False, "3 calls would end")
