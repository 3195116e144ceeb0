"""Real calls: a livekit-server, an agent worker, WebRTC in between."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import wave
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import pytest

from tests.support import live, parts
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.adapters.livekit.token import caller_token
from voiceops.calls import pool
from voiceops.calls.pool import CallerPool
from voiceops.calls.ports import CallerCrashError
from voiceops.calls.stats import CallReport
from voiceops.model.calls import ROOM_PREFIX, CallFailure, CallJob, CallPlan, CallTarget, FailureKind, Hangup
from voiceops.model.documents.common import DiagnosisEntry
from voiceops.model.secret import Secret
from voiceops.wiring import calls as wiring

AGENT = "calls-tone"
ENTRY = Path(__file__).parent / "agents" / "tone.py"


@pytest.fixture(scope="module")
def worker(livekit: live.LiveServer) -> Iterator[subprocess.Popen[bytes]]:
    """A tone agent of this module; its jobs are threads of it."""
    with live.worker(livekit, ENTRY, env={"TONE_AGENT_NAME": AGENT}) as process:
        yield process


@pytest.fixture(scope="module")
def target(livekit: live.LiveServer, worker: subprocess.Popen[bytes]) -> CallTarget:
    """The session's server with a tone agent of this module; the room's name picks what it does."""
    assert worker.poll() is None
    return CallTarget(
        url=livekit.url,
        api_key=Secret(livekit.api_key),
        api_secret=Secret(livekit.api_secret),
        agent_name=AGENT,
    )


@pytest.fixture
async def api(target: CallTarget) -> AsyncIterator[LivekitApi]:
    async with LivekitApi(target.url, target.api_key, target.api_secret) as api:
        yield api


@pytest.fixture
async def room(api: LivekitApi, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A room name that makes the agent behave as the test's parameter says; deleted afterwards."""
    name = f"calls-{secrets.token_hex(4)}-{request.param}"
    yield name
    if await api.list_rooms([name]):
        await api.delete_room(name)


class Jobs:
    """Makes calls for a pool, each into a room that is deleted afterwards."""

    def __init__(self, target: CallTarget) -> None:
        self._target = target
        self.rooms: list[str] = []

    def __call__(self, number: int, *, hold_s: float = 0.0) -> CallJob:
        room = f"calls-{secrets.token_hex(6)}"
        self.rooms.append(room)
        token = caller_token(self._target)(room, "caller", 60.0)
        return CallJob(
            id=number,
            url=self._target.url,
            token=token,
            room=room,
            identity="caller",
            timeout_s=15.0,
            hold_s=hold_s,
        )


@pytest.fixture
async def jobs(target: CallTarget, api: LivekitApi) -> AsyncIterator[Jobs]:
    jobs = Jobs(target)
    yield jobs
    for room in await api.list_rooms(jobs.rooms):
        await api.delete_room(room.name)


@pytest.fixture
def words(tmp_path: Path) -> str:
    """A WAV file with half a second of sound and a second of silence after it."""
    rate = 16_000
    sound = [int(8000 * math.sin(2 * math.pi * 300 * index / rate)) for index in range(rate // 2)]
    file = tmp_path / "words.wav"
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(array("h", sound + [0] * rate).tobytes())
    return str(file)


async def calls(target: CallTarget, **plan: object) -> CallReport:
    return await wiring.run_calls(target, msgspec.structs.replace(CallPlan(), **plan))


def failure(report: CallReport) -> CallFailure:
    (result,) = report.results
    assert result.failure is not None
    return result.failure


async def our_rooms(api: LivekitApi) -> list[str]:
    return [room.name for room in await api.list_rooms() if room.name.startswith(ROOM_PREFIX)]


async def test_a_good_call_tells_its_steps_in_order_and_leaves_no_room(
    target: CallTarget, api: LivekitApi
) -> None:
    report = await calls(target)
    (result,) = report.results
    assert result.ok
    steps = [result.connect_s or 0.0, result.agent_s or 0.0, result.audio_s or 0.0]
    assert 0 < steps[0] < steps[1] < steps[2]
    assert result.rms is not None
    assert result.rms > 1000
    assert report.exit_code == 0
    assert not await api.list_rooms([result.room])


@pytest.mark.parametrize(
    ("room", "said", "timeout_s"),
    # Callers learn of an agent that publishes nothing only after 3 s; the rest is for a machine under load.
    [("silent", "its audio is silence", 8.0), ("mute", "it published no audio", 10.0)],
    indirect=["room"],
)
async def test_an_agent_that_is_not_heard_is_no_good_call(
    target: CallTarget, room: str, said: str, timeout_s: float
) -> None:
    report = await calls(msgspec.structs.replace(target, room=room), timeout_s=timeout_s)
    assert failure(report).kind is FailureKind.SILENT
    assert said in failure(report).detail
    assert report.results[0].agent_s is not None
    assert report.exit_code == 1


@pytest.mark.parametrize("room", ["raise"], indirect=True)
async def test_an_agent_that_never_comes_is_reported_with_what_was_seen(
    target: CallTarget, room: str
) -> None:
    report = await calls(msgspec.structs.replace(target, room=room), timeout_s=2.0)
    assert failure(report).kind is FailureKind.NO_AGENT
    assert any("connected" in line for line in failure(report).seen)


@pytest.mark.parametrize("room", ["leave"], indirect=True)
async def test_an_agent_that_leaves_while_the_caller_holds_is_a_dropped_call(
    target: CallTarget, room: str
) -> None:
    report = await calls(msgspec.structs.replace(target, room=room), hold_s=10.0)
    assert failure(report).kind is FailureKind.DROPPED
    assert report.results[0].audio_s is not None


@pytest.mark.parametrize("room", ["stall"], indirect=True)
async def test_an_agent_that_blocks_its_loop_pauses_and_no_packet_is_missing(
    target: CallTarget, room: str
) -> None:
    report = await calls(msgspec.structs.replace(target, room=room), hold_s=4.0)
    (result,) = report.results
    assert result.ok, result.failure
    # 0.7 s without a frame, of which the agent's queue has 0.2 s, and a decoder rounds both ends.
    assert 0.4 <= (result.max_pause_s or 0.0) < 3, report.as_json()
    assert (result.max_gap_s or 0.0) < (result.max_pause_s or 0.0)


async def test_a_worker_that_is_stopped_leaves_a_gap_that_fails_min_quality(
    target: CallTarget, worker: subprocess.Popen[bytes]
) -> None:
    placed = asyncio.create_task(calls(target, hold_s=8.0, min_quality=3.6))
    try:
        await asyncio.sleep(4.0)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.0)
    finally:
        worker.send_signal(signal.SIGCONT)
    report = await placed
    assert failure(report).kind is FailureKind.POOR_QUALITY, report.as_json()
    (result,) = report.results
    # Stopped for 1 s; the buffer is still heard.
    assert 0.7 <= (result.max_gap_s or 0.0) < 4, report.as_json()
    assert (result.quality or 5.0) < 3


@pytest.mark.parametrize("room", ["answer"], indirect=True)
async def test_the_answer_to_a_script_is_timed_from_the_end_of_its_words(
    target: CallTarget, room: str, words: str
) -> None:
    report = await calls(msgspec.structs.replace(target, room=room), script=words)
    (result,) = report.results
    assert result.ok, result.failure
    assert result.answer_s is not None
    # The agent answers once it has heard silence for 0.6 s: the file's own silence does not count.
    assert 0.5 < result.answer_s < 5


@pytest.mark.parametrize("room", ["hush"], indirect=True)
async def test_a_call_into_a_given_room_leaves_it_standing(
    target: CallTarget, api: LivekitApi, room: str
) -> None:
    await api.create_room(room, agents=["nobody"])
    report = await calls(msgspec.structs.replace(target, room=room))
    assert report.ok == 1
    assert [found.name for found in await api.list_rooms([room])] == [room]


async def test_a_wrong_secret_is_told_apart_and_no_token_is_shown(target: CallTarget) -> None:
    wrong = msgspec.structs.replace(target, api_secret=Secret("w" * 40))
    report = await calls(wrong)
    assert failure(report).kind is FailureKind.CREDENTIALS
    assert "eyJ" not in json.dumps(report.as_json())
    assert report.exit_code == 5


async def test_a_server_that_is_not_there_exits_5(target: CallTarget) -> None:
    gone = msgspec.structs.replace(target, url=f"ws://127.0.0.1:{parts.free_port()}")
    report = await calls(gone)
    assert failure(report).kind is FailureKind.NO_CONNECT
    assert report.exit_code == 5
    assert report.rooms_kept == ()


async def test_a_server_that_never_answers_costs_no_more_than_the_timeout(target: CallTarget) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        report = await calls(msgspec.structs.replace(target, url=f"ws://127.0.0.1:{port}"), timeout_s=1.0)
    assert failure(report).kind is FailureKind.NO_CONNECT
    assert "within 1 s" in failure(report).detail


@pytest.mark.parametrize("room", ["tone"], indirect=True)
@pytest.mark.parametrize("hangup", [Hangup.ABRUPT, Hangup.CLEAN])
async def test_only_an_abrupt_caller_leaves_the_server_in_the_dark(
    target: CallTarget, api: LivekitApi, room: str, hangup: Hangup
) -> None:
    report = await calls(msgspec.structs.replace(target, room=room), hangups=(hangup,))
    assert report.ok == 1
    listed = [one.identity for one in await api.list_participants(room)]
    assert (report.results[0].identity in listed) is (hangup is Hangup.ABRUPT)


async def test_redialling_callers_keep_their_identity_and_leave_no_room(
    target: CallTarget, api: LivekitApi
) -> None:
    report = await calls(
        target, count=3, redial=True, hangups=(Hangup.CLEAN, Hangup.MID_GREETING, Hangup.ABRUPT)
    )
    assert report.ok == 3, report.failures
    assert len({result.identity for result in report.results}) == 1
    assert len({result.room for result in report.results}) == 3
    assert await our_rooms(api) == []


async def test_a_failed_call_is_asked_about_while_its_caller_still_waits(
    target: CallTarget, api: LivekitApi
) -> None:
    present: list[list[str]] = []

    async def why(room: str) -> DiagnosisEntry:
        present.append([one.identity for one in await api.list_participants(room)])
        return {"ok": False, "findings": [], "problems": []}

    lost = msgspec.structs.replace(target, agent_name="nobody-comes")
    report = await wiring.run_calls(lost, CallPlan(timeout_s=1.0), why=why)
    assert present == [[report.results[0].identity]]
    assert report.results[0].verdict == {"ok": False, "findings": [], "problems": []}
    assert await our_rooms(api) == []


async def test_calls_share_caller_processes_and_those_end(jobs: Jobs) -> None:
    callers = CallerPool(most=1)
    before = set(psutil.Process().children())
    # Calls of several plans have the same number.
    results = await asyncio.gather(*(callers.place(jobs(number)) for number in (0, 1, 0)))
    processes, cpu_s, _ = await callers.usage()
    started = set(psutil.Process().children()) - before
    await callers.aclose()
    assert [(result.id, result.ok) for result in results] == [(0, True), (1, True), (0, True)]
    assert (processes, len(started)) == (1, 1)
    assert cpu_s > 0
    assert not any(process.is_running() for process in started)


async def test_a_caller_process_that_dies_is_not_blamed_on_the_agent(jobs: Jobs) -> None:
    callers = CallerPool(most=1)
    before = set(psutil.Process().children())
    call = asyncio.ensure_future(callers.place(jobs(0, hold_s=60.0)))
    while not (started := set(psutil.Process().children()) - before):  # noqa: ASYNC110 - a process is no event
        await asyncio.sleep(0.01)
    started.pop().kill()
    result = await call
    again = await callers.place(jobs(1))
    await callers.aclose()
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CALLER
    assert again.ok


async def test_a_call_whose_caller_process_crashes_is_placed_once_more(target: CallTarget) -> None:
    before = set(psutil.Process().children())
    run = asyncio.ensure_future(wiring.run_calls(target, CallPlan(hold_s=2.0)))
    while not (started := set(psutil.Process().children()) - before):  # noqa: ASYNC110 - a process is no event
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    started.pop().send_signal(signal.SIGABRT)
    report = await run
    assert [result.ok for result in report.results] == [True], report.results
    assert report.load.crash_count == 1


async def test_a_call_whose_caller_process_hangs_ends_as_one_whose_process_crashes(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "longest_s", lambda job: 5.0)
    callers = CallerPool(most=1)
    before = set(psutil.Process().children())
    call = asyncio.ensure_future(callers.place(jobs(0, hold_s=60.0)))
    while not (started := set(psutil.Process().children()) - before):  # noqa: ASYNC110 - a process is no event
        await asyncio.sleep(0.01)
    started.pop().suspend()
    with pytest.raises(CallerCrashError, match="hung"):
        await asyncio.wait_for(call, 30.0)
    await callers.aclose()


def _vanishing(job: CallJob) -> CallJob:
    return msgspec.structs.replace(job, hangup=Hangup.ABRUPT)


def _forks_of_callers() -> list[psutil.Process]:
    found = []
    for one in psutil.Process().children():
        with suppress(psutil.Error):  # one that has ended meanwhile
            found += one.children() if "--vanish" in one.cmdline() else []
    return found


async def test_a_vanishing_caller_that_crashes_is_noticed_at_once(jobs: Jobs) -> None:
    callers = CallerPool(most=1)
    try:
        call = asyncio.ensure_future(callers.place(_vanishing(jobs(0, hold_s=60.0))))
        while not (forks := _forks_of_callers()):  # noqa: ASYNC110 - a process is no event
            await asyncio.sleep(0.05)
        forks[0].send_signal(signal.SIGSEGV)
        with pytest.raises(CallerCrashError, match="exit -11"):
            await asyncio.wait_for(call, 30.0)
        again = await callers.place(_vanishing(jobs(1)))
    finally:
        await callers.aclose()
    assert again.ok


def _inv(folder: Path, repository: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "invoke", "--search-root", str(repository), "call", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=repository,
        env=os.environ | {"VOICEOPS_INVENTORY": str(folder / "inventory.yaml")},
        start_new_session=True,
    )


@pytest.fixture
def project(target: CallTarget, tmp_path: Path) -> Path:
    """A project whose inventory names the agent of this module."""
    (tmp_path / "agent.py").touch()
    document = {
        "all": {
            "vars": {
                "project": "calls",
                "livekit": {
                    "url": target.url,
                    "api_key": target.api_key.reveal(),
                    "api_secret": target.api_secret.reveal(),
                },
                "services": {"agent": {"kind": "agent", "entry": "agent.py", "agent_name": AGENT}},
            },
            "hosts": {"localhost": {"ansible_connection": "local"}},
        }
    }
    (tmp_path / "inventory.yaml").write_text(json.dumps(document))
    return tmp_path


def test_inv_call_prints_json_writes_its_reports_and_exits_0(project: Path, repository: Path) -> None:
    page, picture = project / "report.html", project / "calls.png"
    arguments = ("--json", "--count", "2", "--report", str(page), "--plot", str(picture))
    process = _inv(project, repository, *arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    document = json.loads(out)
    assert (document["answered_count"], document["failed_count"]) == (2, 0)
    assert {"connect_s", "agent_s", "audio_s"} <= set(document["calls"][0]) & set(document["p95"])
    assert "2 of 2 calls answered" in page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_disk_that_is_full_at_the_end_does_not_cost_the_results(project: Path, repository: Path) -> None:
    process = _inv(project, repository, "--json", "--report", "/dev/full")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(out)["answered_count"] == 1
    assert "can't write /dev/full: No space left on device" in err.decode()


async def test_an_interrupted_run_leaves_no_room_behind(
    project: Path, repository: Path, api: LivekitApi
) -> None:
    process = _inv(project, repository, "--hold", "60", "--count", "2", "--concurrency", "2")
    while len(await our_rooms(api)) < 2:
        assert process.poll() is None
        await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 130, err.decode()
    assert await our_rooms(api) == []


def test_an_interrupted_run_prints_the_calls_that_it_has(project: Path, repository: Path) -> None:
    process = _inv(project, repository, "--count", "1000")
    assert process.stderr is not None
    # Told every few seconds: "4 of 1000 calls done, 0 failed".
    for line in process.stderr:
        if b"calls done" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err.decode()
    placed = re.search(rb"interrupted after (\d+) of 1000 calls", out)
    assert int(placed[1] if placed else 0) >= 1, out.decode()
    assert b"first audio" in out
