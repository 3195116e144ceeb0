"""Stacks of real processes for tests: backends over a folder, projects driven by the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.command_folder import REPOSITORY as REPOSITORY
from tests.support.command_folder import CommandFolder, environment_of_user
from tests.support.documents import checked
from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import Process
from voiceops.deadline import Deadline
from voiceops.kinds.model import Declared
from voiceops.model import protocol
from voiceops.model.roles import Role
from voiceops.model.settings import Probe
from voiceops.stack.local.backend import ProcessBackend
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.lock import locked
from voiceops.stack.local.records import LaunchRecord, Records
from voiceops.stack.model import Observed
from voiceops.stack.stack import Stack

FAKE_AGENT = Path(__file__).parent / "fakes" / "agent_process.py"


def sleeper(name: str, folder: Path, **changes: Any) -> Declared:
    """A service of the cheapest kind, with a child of its own; ready by a line of its log."""
    settings: dict[str, Any] = {
        "kind": "command",
        "argv": ("sh", "-c", "sleep 1000 & echo ready; wait"),
        "probe": Probe(log="^ready", interval_s=0.01),
        "digest": "d1",
    }
    return Declared(name=name, cwd=folder, **(settings | changes))


def fake_agent(folder: Path, **changes: Any) -> Declared:
    """A process with an agent's health, signals and children, without its 3 s of imports."""
    settings: dict[str, Any] = {
        "argv": (sys.executable, "-S", str(FAKE_AGENT)),
        "digest": "d1",
        "ready_timeout_s": 20.0,
    }
    return Declared(name="agent", kind="agent", role=Role.AGENT, cwd=folder, **(settings | changes))


def marked(folder: Path) -> list[Process]:
    """Every live process of this project."""
    text = f"{protocol.SERVICE_ENV}={ProjectFolder(folder).mark}/".encode()
    return [process for process in processes.table() if processes.has_environment(process.pid, text)]


def end_all(folder: Path) -> None:
    """Kill what a test has left behind, by its mark or by its record: Redis writes its title over its mark."""
    records = Records(ProjectFolder(folder).state)
    recorded = [one.key for name in records.services() for one in records.read(name)[0] if one.pid]
    for key in (*recorded, *(process.key for process in marked(folder))):
        processes.send_signal(key, signal.SIGKILL)
    processes.wait_gone([*recorded, *(process.key for process in marked(folder))], 5)
    sockets = ProjectFolder(folder).sockets
    for path in sockets.glob("*"):
        path.unlink(missing_ok=True)
    ProjectFolder(folder).tidy()


def stack_of(folder: Path, *services: Declared, say: Callable[[str], None] = lambda line: None) -> Stack:
    """A stack of these services on the process backend, in this process."""
    place = ProjectFolder(folder)
    return Stack(
        services=lambda: services,
        outline=services,
        backend=ProcessBackend(place, say=say),
        lock=lambda limit: locked(place.base, limit, say, "test"),
    )


def observed(folder: Path, service: Declared) -> Observed:
    """The service as it is observed now."""
    return ProcessBackend(ProjectFolder(folder)).observe([service])[service.name]


@contextmanager
def foreign(*argv: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours."""
    process = subprocess.Popen(argv, start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def record_of(folder: Path, name: str) -> LaunchRecord:
    return Records(ProjectFolder(folder).state).read(name)[0][-1]


def soon(timeout_s: float = 10.0) -> Deadline:
    return Deadline(timeout_s, "the test")


class Project(CommandFolder):
    """A folder with an inventory, driven by the real command in processes of its own."""

    __slots__ = ()

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The document that ``--json`` prints; the exit code must be ``code``."""
        ended = self.run(*arguments, "--json")
        assert ended.returncode == code, f"exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        document: dict[str, Any] = checked(arguments, ended.stdout, code)
        return document

    def environment(self) -> dict[str, str]:
        # A busy machine must not make the worker refuse calls: LiveKit never offers them again.
        return environment_of_user() | {"VOICEOPS_LOAD_LIMIT": "off"}


@contextmanager
def project(
    folder: Path, services: Mapping[str, Mapping[str, Any]], *, livekit: Mapping[str, Any] | None = None
) -> Iterator[Project]:
    """A project with these services; ends whatever it left running."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    write_inventory(folder, services, livekit=livekit)
    try:
        yield Project(folder)
    finally:
        end_all(folder)


def write_inventory(
    folder: Path, services: Mapping[str, Mapping[str, Any]], *, livekit: Mapping[str, Any] | None = None
) -> None:
    """JSON is YAML."""
    variables = {"project": "test", "livekit": dict(livekit or {}), "services": services}
    (folder / "inventory.yaml").write_text(json.dumps({"all": {"vars": variables}}))


def cheap_services(names: Sequence[str], **changes: Any) -> dict[str, dict[str, Any]]:
    """Command services for an inventory, each with a child."""
    settings: dict[str, Any] = {
        "kind": "command",
        "command": ["sh", "-c", "sleep 1000 & echo ready; wait"],
        "probe": {"log": "^ready", "interval_s": 0.01},
    }
    return {name: {**settings, **changes} for name in names}
