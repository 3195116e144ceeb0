"""How many functions a command passes through before it acts: ARCHITECTURE.md names them."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import voiceops
from tests.support import parts
from voiceops.adapters.process import processes
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.cli.program import VoiceopsProgram
from voiceops.deploy.desired import desired_state
from voiceops.errors import ServiceError, UnreachableError
from voiceops.tasks import namespace

PACKAGE = Path(voiceops.__file__).parent
INVENTORY = {
    "all": {
        "vars": {"project": "demo", "services": {"web": {"kind": "command", "command": ["/bin/sleep", "9"]}}},
        "children": {"servers": {"hosts": {"web1": {"ansible_host": "192.0.2.1"}}}},
    }
}
FACTS = {"hostname": "web1", "machine": "x86_64", "python": [3, 11, 2], "libc": ["glibc", "2.36"]}


def walk(above: str = "") -> list[str]:
    """The functions of voiceops that are on the stack here, from the first one in ``above``."""
    frames = [
        f"{Path(frame.filename).relative_to(PACKAGE)}:{frame.name}"
        for frame in traceback.extract_stack()
        if Path(frame.filename).is_relative_to(PACKAGE)
    ]
    first = next((number for number, name in enumerate(frames) if name.startswith(above)), len(frames))
    return frames[first:]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "inventory.yaml").write_text(json.dumps(INVENTORY))
    (tmp_path / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inv(*arguments: str) -> Any:
    """The exit code of one command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        VoiceopsProgram(name="voiceops", namespace=namespace, binary="inv").run(["inv", *arguments])
    return ended.value.code


def test_start_reaches_the_new_process_in_eleven_calls(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[list[str]] = []

    def spawn(*_: object, **__: object) -> None:
        walks.append(walk("tasks/"))
        raise ServiceError("no process in this test")

    monkeypatch.setattr(processes, "spawn", spawn)
    assert inv("start") == 1
    (passed,) = walks
    assert passed == [
        "tasks/stack.py:start",
        "commands/stack.py:start",
        "fleet/run.py:run_on",
        "commands/stack.py:start_on",
        "stack/operations.py:start",
        "stack/steps.py:run",
        "stack/results.py:side_by_side",
        "stack/steps.py:_carry_out",
        "stack/steps.py:_bring_up",
        "stack/local/backend.py:start",
    ]
    assert len([*passed, "adapters/process/processes.py:spawn"]) <= 11


def test_deploy_reaches_the_payload_without_a_way_back_through_wiring(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = project / ".voiceops" / "hosts"
    noted.mkdir(parents=True)
    (noted / "web1-192.0.2.1-22.json").write_text(json.dumps(FACTS))
    walks: list[list[str]] = []

    def start(self: SshTransport, *_: object, **__: object) -> None:
        walks.append(walk())
        raise UnreachableError("no host in this test")

    monkeypatch.setattr(SshTransport, "open", lambda self: None)
    monkeypatch.setattr(SshTransport, "start", start)
    assert inv("deploy", "--host", "web1") == 5
    (passed,) = walks
    assert passed[0] == "fleet/run.py:serve"
    assert "deploy/rollout.py:inspect" in passed
    assert not [name for name in passed if name.startswith("wiring/")]


def test_the_states_of_hosts_are_made_without_a_way_back_through_wiring(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[list[str]] = []

    def noted_state(*arguments: Any) -> Any:
        walks.append(walk())
        return desired_state(*arguments)

    noted = project / ".voiceops" / "hosts"
    noted.mkdir(parents=True)
    (noted / "web1-192.0.2.1-22.json").write_text(json.dumps(FACTS))
    monkeypatch.setattr("voiceops.deploy.host_states.desired_state", noted_state)
    monkeypatch.setattr(SshTransport, "open", lambda self: None)
    monkeypatch.setattr(SshTransport, "start", lambda *_, **__: _unreachable())
    assert inv("deploy", "--host", "web1") == 5
    assert walks
    assert not [name for passed in walks for name in passed if name.startswith("wiring/")]


BESIDE = {"StackFacts", "ObservedStack", "_HostDiagnosis", "HostFact", "CallHistory", "Fix", "RecoveryLevel"}
"""They hold what was observed without copying it, or are about something else than a service."""
FORMS = (
    "voiceops.stack.model",
    "voiceops.doctor",
    "voiceops.model.server",
    "voiceops.model.findings",
    "voiceops.commands",
)


@contextmanager
def made_objects() -> Iterator[list[str]]:
    """The classes of ``FORMS``, in the order in which the block first makes one of each."""
    found: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "__init__" and "self" in frame.f_locals:
            kind = type(frame.f_locals["self"])
            if kind.__module__.startswith(FORMS) and kind.__name__ not in found:
                found.append(kind.__name__)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def test_why_takes_a_service_through_six_forms(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services = {"agent": {"kind": "agent", "entry": "agent.py"}}
    livekit = {"url": f"ws://127.0.0.1:{parts.free_port()}", "api_key": "k", "api_secret": "s" * 40}
    variables = {"project": "demo", "services": services, "livekit": livekit}
    (project / "inventory.yaml").write_text(json.dumps({"all": {"vars": variables}}))
    (project / "agent.py").write_text("")
    with made_objects() as found:
        assert inv("why", "--json") == 1
    (finding, *_) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["rule"] == "server-down"
    forms = {"Observed", "ServiceVerdict", "WorkerFact", "ServerFact", "Finding"}
    # Before them what a backend reads (a launch record, a unit's state), behind them the line or its JSON.
    assert {name for name in found if not name.startswith("Local")} - BESIDE == forms


def _unreachable() -> None:
    raise UnreachableError("no host in this test")
