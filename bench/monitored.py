"""A stack with a monitor for benches: what it repaired, what it keeps of calls, and how busy the machine was."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import parts
from tests.support.projects import REPOSITORY, Project, project

AGENTS = REPOSITORY / "tests" / "integration" / "agents"
TONE = AGENTS / "tone.py"


@contextmanager
def monitored(
    entry: Path | None,
    *,
    interval_s: float = 30.0,
    agent: dict[str, Any] | None = None,
    variables: dict[str, Any] | None = None,
    livekit: dict[str, Any] | None = None,
    monitor: dict[str, Any] | None = None,
    folder: Path | None = None,
) -> Iterator[Project]:
    """A stack of server, agent and monitor with webhooks, started.

    ``variables`` go on top of the inventory's, ``livekit`` into livekit.yaml, ``monitor`` into its service.
    """
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        project(folder or Path(name) / "stack", entry, agent=agent) as made,
    ):
        services = made.variables["services"]
        services["monitor"] = {"kind": "monitor", "webhook_port": parts.free_port(), **(monitor or {})}
        services["livekit"]["config"] |= livekit or {}
        made.variables["monitor"] = {"interval_s": interval_s}
        made.variables |= variables or {}
        made.write()
        made.inv("start", "--timeout", "160")
        yield made


def log_lines(made: Project, service: str = "monitor") -> list[dict[str, Any]]:
    """The log of a service, as far as its lines are JSON: a full disk cuts some."""
    file = made.folder / ".voiceops" / "logs" / f"{service}.log"
    found = []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                found.append(entry)
    return found


def repairs(made: Project) -> list[dict[str, Any]]:
    """All repairs that the history has kept."""
    found = made.inv("history", "--repairs", "--json").json["hosts"]["localhost"]["repairs"]
    return list(found)


def load() -> str:
    """How busy the machine is, to be printed beside figures."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
