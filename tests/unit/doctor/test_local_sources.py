"""What this machine's sources look at twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from voiceops.doctor import local_sources
from voiceops.doctor.local_sources import LocalSources
from voiceops.kinds.agent import AgentService
from voiceops.kinds.model import Declared
from voiceops.model.settings import Settings
from voiceops.model.states import ServiceState
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.model import Instance, Observed

STOPPED = Observed()
DRAINING = Observed(
    instances=(Instance(service="agent", launch="old", pid=0, digest="", state=ServiceState.DRAINING),)
)
"""No health socket answers for it."""


@pytest.mark.parametrize(
    ("seen", "drain"),
    [([STOPPED], False), ([DRAINING, STOPPED], False), ([DRAINING, DRAINING], True)],
    ids=["none drains", "just ending", "stuck"],
)
def test_a_draining_worker_that_does_not_answer_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[Observed], drain: bool
) -> None:
    monkeypatch.setattr(local_sources, "ENDING_S", 0.01)
    looks: Iterator[Observed] = iter(seen)
    sources = LocalSources(
        settings=Settings(project="test", services={"agent": AgentService(entry="agent.py")}),
        folder=ProjectFolder(tmp_path),
        observe=lambda: {"agent": next(looks)},
        declared=lambda: [Declared(name="agent", kind="agent", cwd=tmp_path, digest="d")],
    )
    workers = asyncio.run(sources.workers())
    assert any(one.draining for one in workers) is drain
    assert list(looks) == [], "looked as often as needed, no more"
