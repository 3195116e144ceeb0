"""What stands in the way of the process backend: strays, calls, a full disk, the lock."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import parts, stacks
from tests.support.stacks import fake_agent, foreign, observed, sleeper, soon, stack_of
from voiceops.adapters.process import processes
from voiceops.deadline import Deadline
from voiceops.errors import CallsInProgressError, LockedError, ServiceError, StorageError, StrayError
from voiceops.kinds.model import Declared
from voiceops.model.settings import Probe
from voiceops.model.states import ServiceState
from voiceops.stack import operations
from voiceops.stack.backend import StopForce
from voiceops.stack.local.backend import ProcessBackend
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.model import Stray, judge


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stacks.end_all(tmp_path)


# -- strays ------------------------------------------------------------------

ANSWERS_200 = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"OK")
    def log_message(self, *a): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("up", flush=True)
server.serve_forever()
"""


def web_on(port: int, folder: Path) -> Declared:
    return sleeper(
        "web",
        folder,
        argv=(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"),
        probe=Probe(http=f"http://127.0.0.1:{port}/", interval_s=0.02),
        ports=(port,),
    )


def test_a_foreign_process_on_our_port_that_answers_200_is_named_and_never_ended(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = parts.free_port()
    stack = stack_of(folder, web_on(port, folder))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with foreign(
        sys.executable, "-c", ANSWERS_200, str(port), cwd=elsewhere, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        verdict = operations.check(stack)["web"]
        assert verdict.state is ServiceState.STRAY
        assert verdict.pids == (other.pid,)
        assert verdict.foreign_owner == "another program"
        for replace_strays in (False, True):
            with pytest.raises(StrayError) as caught:
                operations.start(stack, replace_strays=replace_strays)
            assert caught.value.data["pid"] == other.pid
            assert str(port) in caught.value.message
            assert "--replace" not in str(caught.value.hint)
        assert other.poll() is None
        other.stdout.close()


def test_the_same_program_started_by_hand_in_our_folder_is_a_stray_until_replaced(folder: Path) -> None:
    port = parts.free_port()
    service = web_on(port, folder)
    stack = stack_of(folder, service)
    with foreign(*service.argv, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as other:
        while operations.check(stack)["web"].state is not ServiceState.STRAY:
            assert other.poll() is None
            time.sleep(0.02)
        with pytest.raises(StrayError) as caught:
            operations.start(stack)
        assert "`inv start --replace`" in str(caught.value.hint)
        assert operations.start(stack, replace_strays=True)["web"].state is ServiceState.READY
        assert other.wait(timeout=5) is not None
    assert operations.check(stack)["web"].ok


def test_a_service_of_another_project_is_named_with_its_folder_and_never_ended(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = parts.free_port()
    first = stack_of(folder, web_on(port, folder))
    operations.start(first)
    second_folder = tmp_path_factory.mktemp("second project")
    second = stack_of(second_folder, web_on(port, second_folder))
    with pytest.raises(StrayError) as caught:
        operations.start(second, replace_strays=True)
    assert f"port {port} belongs to voiceops project {folder} (0 calls)" in caught.value.message
    assert operations.check(first)["web"].ok


@pytest.mark.parametrize("url", ["", "ws://127.0.0.1:1", "ws://elsewhere:2"])
def test_the_same_agent_started_by_hand_is_a_stray_unless_it_serves_another_livekit(
    folder: Path, url: str
) -> None:
    entry = folder / "agent.py"
    entry.write_text("import time\nprint('up', flush=True)\ntime.sleep(1000)\n")
    agent = fake_agent(folder, entry=entry, livekit_url="ws://127.0.0.1:1")
    environment = {name: value for name, value in os.environ.items() if name != "LIVEKIT_URL"}
    environment |= {"LIVEKIT_URL": url} if url else {}
    with foreign(
        sys.executable, "agent.py", "start", cwd=folder, env=environment, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        verdict = judge(observed(folder, agent))
        other.stdout.close()
    assert verdict.state is (ServiceState.MISSING if "elsewhere" in url else ServiceState.STRAY)


def test_a_stray_that_ignores_sigterm_is_killed_with_its_children_and_not_with_its_session(
    folder: Path,
) -> None:
    script = 'sleep 1000 & echo $!; exec {} -c "import signal; signal.signal(15, signal.SIG_IGN); import time; time.sleep(1000)"'
    session = f"sleep 1001 & sh -c '{script.format(sys.executable)}' & echo $!; wait"
    with foreign("sh", "-c", session, stdout=subprocess.PIPE) as terminal:
        assert terminal.stdout is not None
        pids = [int(terminal.stdout.readline()), int(terminal.stdout.readline())]
        bystanders = [p for p in processes.table() if p.session == terminal.pid and p.pid not in pids]
        key = next(p.key for p in processes.table() if p.pid in pids and p.parent == terminal.pid)
        backend = stack_of(folder).backend
        stray = Stray(service="x", pid=key.pid, start=key.start, command="", age_s=0, reason="")
        backend.end_stray(stray, soon(0.5))
        assert not any(processes.find(pid) for pid in pids)
        assert all(processes.alive(process.key) for process in bystanders)
        terminal.stdout.close()


def test_the_process_that_has_a_strays_pid_by_now_is_left_alone(folder: Path) -> None:
    with foreign("sleep", "1000") as other:
        stray = Stray(service="x", pid=other.pid, start="boot:1", command="sleep 1000", age_s=0, reason="")
        stack_of(folder).backend.end_stray(stray, soon(0.5))
        assert processes.find(other.pid)


# -- agents ------------------------------------------------------------------


def test_stop_names_the_calls_and_needs_yes_or_a_drain(folder: Path) -> None:
    calls = folder / "calls"
    calls.touch()
    agent = fake_agent(folder, env={"FAKE_CALLS": "room-a,room-b", "FAKE_CALLS_FILE": str(calls)})
    stack = stack_of(folder, agent)
    operations.start(stack)
    with pytest.raises(CallsInProgressError) as caught:
        operations.stop(stack)
    assert caught.value.data["rooms"] == ["room-a", "room-b"]
    assert "room-a" not in caught.value.message
    assert operations.check(stack)["agent"].ok
    with pytest.raises(CallsInProgressError, match="takes no new ones"):
        operations.stop(stack, drain_s=0.3)
    assert operations.check(stack)["agent"].state is ServiceState.DRAINING
    threading.Timer(0.3, calls.unlink).start()
    operations.stop(stack, drain_s=20)
    assert stacks.marked(folder) == []
    assert ProjectFolder(folder).log_file("agent").read_text().count("got SIGTERM") == 1


def test_stop_with_yes_drops_the_calls_at_once(folder: Path) -> None:
    stack = stack_of(folder, fake_agent(folder, env={"FAKE_CALLS": "room-a"}))
    operations.start(stack)
    operations.stop(stack, drop_calls=True)
    assert stacks.marked(folder) == []


def test_an_agent_is_replaced_by_overlap_and_the_old_one_gets_exactly_one_signal(folder: Path) -> None:
    calls = folder / "calls"
    calls.touch()
    environment = {"FAKE_CALLS": "room-a", "FAKE_CALLS_FILE": str(calls)}
    old = fake_agent(folder, env=environment)
    first = operations.start(stack_of(folder, old))["agent"]
    new = fake_agent(folder, digest="d2")
    stack = stack_of(folder, new)
    second = operations.start(stack)["agent"]
    assert second.action == "overlap"
    assert second.draining == [first.pid]
    assert operations.check(stack)["agent"].ok
    operations.start(stack)
    with pytest.raises(CallsInProgressError):
        operations.stop(stack)
    calls.unlink()
    assert processes.wait_gone([p.key for p in [processes.find(first.pid)] if p], 5) == []
    assert not operations.start(stack)["agent"].changed
    log = ProjectFolder(folder).log_file("agent").read_text()
    assert log.index("registered worker", log.index("registered worker") + 1) < log.index("got SIGTERM")
    assert log.count("got SIGTERM") == 1
    assert "second signal" not in log


def test_a_swallowed_stop_signal_is_noticed_and_sent_again(folder: Path) -> None:
    stack = stack_of(folder, fake_agent(folder, env={"FAKE_DEAF": "1"}))
    operations.start(stack)
    operations.stop(stack)
    log = ProjectFolder(folder).log_file("agent").read_text()
    assert log.count("got SIGTERM") == 2
    assert "second signal" not in log


def test_an_agent_whose_starter_was_killed_is_waited_for_by_its_health(folder: Path) -> None:
    agent = fake_agent(folder, env={"FAKE_SLOW_S": "0.7"})
    starter = ProcessBackend(ProjectFolder(folder))
    started = starter.start(agent)
    starter.close()
    result = operations.start(stack_of(folder, agent))["agent"]
    assert (result.pid, result.action, result.changed) == (started.pid, "wait", False)


def test_a_frozen_agent_is_unresponsive(folder: Path) -> None:
    agent = fake_agent(folder)
    stack = stack_of(folder, agent)
    operations.start(stack)
    pid = observed(folder, agent).current[0].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert operations.check(stack)["agent"].state is ServiceState.UNRESPONSIVE
    finally:
        os.kill(pid, signal.SIGCONT)


# -- the disk ----------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 64 KiB."""
    if os.geteuid() != 0:
        parts.missing("small disk", "mounting a tmpfs needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True)
    yield place
    stacks.end_all(place)
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_fails_clearly_with_nothing_started_and_does_not_keep_a_service_from_stopping(
    small_disk: Path,
) -> None:
    stack = stack_of(small_disk, sleeper("one", small_disk))
    operations.start(stack)
    with contextlib.suppress(OSError), (small_disk / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    other = stack_of(small_disk, sleeper("one", small_disk), sleeper("two", small_disk))
    with pytest.raises(StorageError, match="No space left") as caught:
        operations.start(other)
    assert "free some space" in (caught.value.hint or "")
    assert operations.check(other)["two"].state is ServiceState.MISSING
    assert operations.check(stack)["one"].ok
    operations.stop(stack)
    assert stacks.marked(small_disk) == []


def test_a_read_only_folder_fails_clearly_and_can_still_be_looked_at(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    stack = stack_of(small_disk, sleeper("one", small_disk))
    with pytest.raises(StorageError, match="Read-only file system"):
        operations.start(stack)
    assert operations.check(stack)["one"].state is ServiceState.MISSING
    assert stacks.marked(small_disk) == []


# -- the lock ----------------------------------------------------------------


def test_a_held_lock_names_its_owner_and_falls_with_it(folder: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from voiceops.stack.local.lock import locked;"
        "from voiceops.deadline import Deadline\n"
        "with locked(Path(sys.argv[1]), Deadline(5, 'x'), print, 'inv start'):\n"
        "    print('held', flush=True); time.sleep(1000)"
    )
    said: list[str] = []
    stack = stack_of(folder, sleeper("one", folder), say=said.append)
    environment = os.environ | {"PYTHONPATH": str(stacks.REPOSITORY)}
    with foreign(
        sys.executable, "-c", holder, str(folder / ".voiceops"), env=environment, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(LockedError, match=rf"pid {owner.pid} \(inv start"):
            operations.start(stack, timeout_s=0.8)
        assert any(str(owner.pid) in line for line in said)
        owner.kill()
        owner.stdout.close()
        assert operations.start(stack)["one"].changed


def test_services_do_not_inherit_the_lock(folder: Path) -> None:
    operations.start(stack_of(folder, sleeper("one", folder)))
    operations.stop(stack_of(folder, sleeper("one", folder)), timeout_s=1.0)


def test_a_very_long_path_still_has_sockets(tmp_path: Path) -> None:
    folder = tmp_path / ("deep-" * 20) / ("deeper-" * 10)
    folder.mkdir(parents=True)
    agent = fake_agent(folder)
    try:
        stack = stack_of(folder, agent)
        assert operations.start(stack)["agent"].state is ServiceState.READY
        assert operations.check(stack)["agent"].ok
        assert ProjectFolder(folder).sockets.parent != folder / ".voiceops"
        operations.stop(stack)
        assert not ProjectFolder(folder).sockets.exists()
    finally:
        stacks.end_all(folder)


def test_backends_end_a_run_once_and_again_without_harm(folder: Path) -> None:
    service = sleeper("one", folder)
    backend = stack_of(folder, service).backend
    run = backend.wait_ready(service, backend.start(service), soon())
    assert backend.end(run, soon(), StopForce.STOP)
    assert backend.end(run, soon(), StopForce.KILL)
    assert stacks.marked(folder) == []
    with socket.socket() as _, pytest.raises(ServiceError):
        backend.wait_ready(service, run, Deadline(1, "x"))
