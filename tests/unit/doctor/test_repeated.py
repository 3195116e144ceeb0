"""The diagnosis of a monitor: of what it has observed, of logs that are read once, by steps that it can do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.fakes.livekit_api import FakeLivekitApi
from voiceops.doctor.certificates import CertificateReader
from voiceops.doctor.facts import FullDisk
from voiceops.doctor.observed_stack import WorkerDetails
from voiceops.doctor.recent_events import MOST_EVENTS, RecentEvents
from voiceops.doctor.repeated import RepeatedDiagnosis, SessionRooms, WatchedSources
from voiceops.errors import CallsInProgressError
from voiceops.health.agent import AgentHealth
from voiceops.kinds.agent import AgentService
from voiceops.kinds.livekit import LivekitService
from voiceops.kinds.postgres import PostgresService
from voiceops.model.findings import Diagnosis
from voiceops.model.roles import Role
from voiceops.model.rooms import Participant
from voiceops.model.secret import Secret
from voiceops.model.server import ServerFact
from voiceops.model.settings import LivekitSettings, Settings
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance, Observed

SETTINGS = Settings(
    project="p",
    services={
        "agent": AgentService(entry="agent.py"),
        "livekit": LivekitService(version="1.13.5"),
        "db": PostgresService(),
    },
    livekit=LivekitSettings(api_key=Secret("key"), api_secret=Secret("s" * 32)),
)


def database(state: ServiceState = ServiceState.READY, *, refused: bool = False) -> Instance:
    """The PostgreSQL beside the agent."""
    return Instance(service="db", launch="2", pid=8, digest="", state=state, refused=refused)


class KeptSteps:
    """``StackActions`` that keep what they were told."""

    def __init__(self) -> None:
        self.done: list[tuple[str, list[str]]] = []

    def start(self, only: Sequence[str], *, replace: bool) -> None:
        self.done.append(("start", list(only)))

    def restart(self, only: Sequence[str], *, now: bool) -> None:
        raise CallsInProgressError("2 calls would end")


class Machine:
    """An agent that runs beside its log, and the diagnosis of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = folder / "agent.log"
        self.health: AgentHealth | None = AgentHealth(registered=True, draining=False)
        self.state = ServiceState.READY
        self.asked = ServerFact(url="ws://x", reachable=True, status=200, credentials="ok")
        self.folder = folder
        self.database = Observed(instances=(database(),))
        self.frozen = False
        self.wanted = {"agent", "db"}
        self.full_disks: list[FullDisk] = []
        self.steps = KeptSteps()
        self.api = FakeLivekitApi()

        async def check(*_: object) -> ServerFact:
            return self.asked

        monkeypatch.setattr("voiceops.doctor.repeated.check_server", check)
        monkeypatch.setattr("psutil.cpu_percent", lambda: 10.0)

    def diagnosis(
        self, *, steps: Sequence[str] = ("start", "restart"), server: str = ""
    ) -> RepeatedDiagnosis:
        sources = WatchedSources(
            certificates=CertificateReader({}),
            settings=SETTINGS,
            observed=lambda: {"agent": Observed(instances=(self.instance(),)), "db": self.database},
            details=lambda instance: WorkerDetails(health=self.health, stopped=self.frozen),
            recent=RecentEvents([("agent", self.log)]),
            root=self.folder,
            wanted=lambda: self.wanted,
            full_disks=lambda: self.full_disks,
        )
        rooms = SessionRooms(settings=SETTINGS, api=self.api, loop=asyncio.get_running_loop())
        return RepeatedDiagnosis(
            sources=sources,
            api=self.api,
            stack=self.steps,
            rooms=rooms,
            stack_steps=frozenset(steps),
            server=server,
        )

    def instance(self) -> Instance:
        return Instance(
            service="agent",
            role=Role.AGENT,
            launch="1",
            pid=7,
            digest="of-other-code",
            state=self.state,
            age_s=600.0,
        )

    def write(self, message: str, **fields: object) -> None:
        line = {"level": "ERROR", "timestamp": time.time(), "message": message, **fields}
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def rules(seen: Diagnosis) -> list[tuple[str, str]]:
    return [(one.rule, one.service) for one in seen.findings]


async def test_a_healthy_stack_has_no_finding_though_its_code_was_edited(machine: Machine) -> None:
    assert await machine.diagnosis().diagnose(()) == Diagnosis(findings=(), complete=True)


async def test_services_beside_the_calls_have_the_cause_that_why_says(machine: Machine) -> None:
    diagnosis = machine.diagnosis()
    silent = ServiceState.UNRESPONSIVE

    async def cause() -> list[str]:
        return [one.sentence for one in (await diagnosis.diagnose(())).findings if one.service == "db"]

    machine.database = Observed(stale="pid 8 is gone")
    assert await cause() == ["db does not run, and nobody has stopped it."]
    machine.wanted = {"agent"}
    assert await cause() == [], "a person has stopped it"
    machine.wanted = {"agent", "db"}
    machine.database = Observed(instances=(database(silent, refused=True),))
    (said,) = await cause()
    assert said.startswith("db refuses the password of the inventory")
    machine.frozen, machine.database = True, Observed(instances=(database(silent),))
    assert await cause() == ["db is frozen (its process is stopped, state T)."]
    machine.frozen, machine.database = False, Observed(instances=(database(),))
    machine.full_disks = [FullDisk(folder="/data", data=("db",), free_bytes=0)]
    assert await cause() == ["The disk of the data of db is full: db can't write."]


async def test_calls_that_failed_are_found_in_lines_that_are_new(machine: Machine) -> None:
    diagnosis = machine.diagnosis()
    assert rules(await diagnosis.diagnose(())) == []
    machine.write("received job request", level="INFO", job_id="AJ_1", room="alice")
    trace = 'Traceback (most recent call last):\n  File "agent.py", line 31, in entry\n    x\nKeyError: 1'
    machine.write(
        "unhandled exception while running the job task", job_id="AJ_1", room="alice", exc_info=trace
    )
    for _ in range(2):  # lines that were read before are still known
        (found,) = (await diagnosis.diagnose(())).findings
        assert (found.rule, found.service, found.repairable) == ("calls-failed", "agent", False)
        assert "KeyError" in found.sentence
        assert found.fix.startswith("correct agent.py:31")


async def test_a_worker_that_never_ends_its_drain_is_started_anew_and_on_a_server_a_person_has_to(
    machine: Machine,
) -> None:
    machine.state, machine.health = ServiceState.DRAINING, None
    diagnosis = machine.diagnosis()
    (found,) = (await diagnosis.diagnose(())).findings
    assert (found.rule, found.repairable) == ("worker-drain-stuck", True)
    assert await asyncio.to_thread(diagnosis.repair, [found]) == ("",)
    assert machine.steps.done == [("start", ["agent"])]
    (found,) = (await machine.diagnosis(steps=["restart"], server="web1").diagnose(())).findings
    assert (found.repairable, found.fix) == (False, "inv start --only agent --host web1")


async def test_a_step_that_would_end_calls_says_so(machine: Machine) -> None:
    machine.asked = ServerFact(url="ws://x", reachable=True, status=406, credentials="ok")
    diagnosis = machine.diagnosis()
    (found,) = (await diagnosis.diagnose(())).findings
    assert (found.rule, found.service, found.repairable) == ("server-not-ready", "livekit", True)
    (failure,) = await asyncio.to_thread(diagnosis.repair, [found])
    assert failure.startswith("2 calls would end")


async def test_only_the_rooms_that_are_in_doubt_are_looked_into_and_their_fixes_use_the_open_session(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceops.doctor.local_recovery.DISPATCH_WAIT_S", 0.2)
    now = time.time()
    doubted = machine.api.put("doubted", Participant(identity="caller", joined_at=now - 60), age_s=60)
    machine.api.put("other", Participant(identity="caller", joined_at=now - 60), age_s=60)
    diagnosis = machine.diagnosis()
    (found,) = (await diagnosis.diagnose([doubted])).findings
    assert (found.room, found.room_sid, found.repairable) == ("doubted", doubted.sid, True)
    assert {room for called, room in machine.api.calls if called == "list_participants"} == {"doubted"}
    (failure,) = await asyncio.to_thread(diagnosis.repair, [found])
    assert ("create_dispatch", "doubted") in machine.api.calls
    assert "doubted" not in failure


async def test_what_can_not_be_observed_is_said_and_is_no_finding(machine: Machine) -> None:
    doubted = machine.api.put("doubted", age_s=60)
    machine.api.failures["list_participants"] = [CallsInProgressError("503")]
    assert await machine.diagnosis().diagnose([doubted]) == Diagnosis(findings=(), complete=False)


def test_of_a_long_log_the_last_events_stay_and_debug_lines_do_not(machine: Machine) -> None:
    recent = RecentEvents([("agent", machine.log)])
    for number in range(MOST_EVENTS + 50):
        machine.write(f"line {number}")
    machine.write("detail", level="DEBUG")
    found = recent.read(0.0)
    assert (len(found), found[-1].message) == (MOST_EVENTS, f"line {MOST_EVENTS + 49}")
    assert recent.read(time.time() + 60) == ()
