"""A voiceops project in a folder of its own, on free ports, driven by the command line as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support import parts
from tests.support.command_folder import REPOSITORY as REPOSITORY
from tests.support.documents import checked
from tests.support.forked_commands import run_command
from tests.support.live import API_KEY, API_SECRET, wait_for_line
from tests.support.terminals import OpenTerminal
from voiceops.adapters.process import processes
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.observe import find_runs


@dataclass(slots=True)
class Answer:
    """What one command printed, and how it ended."""

    code: int
    out: str
    err: str
    arguments: tuple[str, ...]

    @property
    def json(self) -> Any:
        """The document, which is as docs/json says."""
        return checked(self.arguments, self.out, self.code)


@dataclass(slots=True)
class Project:
    """One project folder."""

    folder: Path
    url: str
    variables: dict[str, Any]
    env: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Write inventory.yaml from ``variables``; call it again after changing them."""
        inventory = {
            "all": {
                "vars": self.variables,
                "children": {"local": {"hosts": {"localhost": {"ansible_connection": "local"}}}},
            }
        }
        (self.folder / "inventory.yaml").write_text(yaml.safe_dump(inventory, sort_keys=False))

    def inv(self, *arguments: str, code: int | None = 0, timeout_s: float = 240) -> Answer:
        """Run one command; ``code`` is what it has to exit with (None: any)."""
        done = run_command(
            arguments,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | self.env,
            timeout_s=timeout_s,
        )
        assert code is None or done.returncode == code, (
            f"inv {' '.join(arguments)} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return Answer(done.returncode, done.stdout, done.stderr, arguments)

    def on_terminal(self, *arguments: str, columns: int, lines: int) -> OpenTerminal:
        """One command on a terminal of that size, which is still open."""
        return OpenTerminal(
            [sys.executable, "-m", "voiceops", "--project", str(self.folder), *arguments],
            folder=self.folder,
            environment=os.environ | {"PYTHONPATH": str(REPOSITORY)} | self.env,
            columns=columns,
            lines=lines,
        )

    def start_stray(self, old: str, new: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start the agent's entry by hand with other code in it, as a script would; the entry is as before.

        Returns the process, registered, and its log.
        """
        entry = self.folder / "agent" / "agent.py"
        good = entry.read_text()
        assert old in good
        entry.write_text(good.replace(old, new))
        log_file = self.folder / f"stray-{time.monotonic_ns()}.log"
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "livekit.agents", "start", str(entry)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ
                | {"LIVEKIT_URL": self.url, "LIVEKIT_API_KEY": API_KEY, "LIVEKIT_API_SECRET": API_SECRET},
            )
        wait_for_line(process, log_file, "registered worker")
        entry.write_text(good)
        return process, log_file

    def pid(self, service: str) -> int:
        """The pid of the only instance of a service that was not told to stop."""
        runs, _ = find_runs(ProjectFolder(self.folder), processes.table())
        mine = [run for run in runs if run.record.service == service and run.record.signalled_at is None]
        (pid,) = [run.main.pid for run in mine if run.main is not None]
        return pid


@contextmanager
def project(
    folder: Path,
    entry: Path | None = None,
    *,
    agent: dict[str, Any] | None = None,
    secret: str = API_SECRET,
    departure_timeout_s: int = 4,
) -> Iterator[Project]:
    """A project with a livekit-server and, with ``entry``, one agent; stopped when the block ends.

    The server closes a room ``departure_timeout_s`` after its last caller has left, and with it ends the agent's job:
    after LiveKit's own 20 s a worker that drains would be waited for as long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    url = f"ws://127.0.0.1:{parts.free_port()}"
    services: dict[str, Any] = {
        "livekit": {
            "kind": "livekit",
            "binary": str(parts.livekit_server_binary()),
            "rtc_tcp_port": parts.free_port(),
            "rtc_udp_port": parts.free_port(),
            "config": {"room": {"departure_timeout": departure_timeout_s}},
        }
    }
    if entry is not None:
        (folder / "agent").mkdir()
        (folder / "agent" / "agent.py").write_text(entry.read_text())
        services["agent"] = {
            "kind": "agent",
            "entry": "agent/agent.py",
            "needs": ["livekit"],
            **(agent or {}),
        }
    made = Project(
        folder=folder,
        url=url,
        variables={
            "project": "test",
            "livekit": {
                "url": url,
                "api_key": {"env": "LIVEKIT_API_KEY"},
                "api_secret": {"env": "LIVEKIT_API_SECRET"},
            },
            "services": services,
        },
        # A busy machine must not make the worker refuse calls: LiveKit never offers them again.
        env={"LIVEKIT_API_KEY": API_KEY, "LIVEKIT_API_SECRET": secret, "VOICEOPS_LOAD_LIMIT": "off"},
    )
    made.write()
    (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    try:
        yield made
    finally:
        made.inv("stop", "--now", "--yes")
