"""The kind ``letta`` on a real Letta and a real PostgreSQL, where VOICEOPS_TEST_LETTA asks for it: it takes 50 s, and 800 MB."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import parts, stacks
from tests.support.stacks import Project


@pytest.fixture
def port() -> int:
    return parts.free_port()


@pytest.fixture
def project(tmp_path: Path, port: int) -> Iterator[Project]:
    if not os.environ.get("VOICEOPS_TEST_LETTA"):
        pytest.skip("Letta takes 50 s, and 800 MB in the cache: VOICEOPS_TEST_LETTA=1 runs this")
    services = {
        "postgres": {"kind": "postgres", "port": parts.free_port(), "database": "letta"},
        "letta": {"kind": "letta", "port": port},
    }
    with stacks.project(tmp_path / "my project", services) as made:
        yield made


def ask(port: int, path: str, token: str = "", **body: object) -> object:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/{path}", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.slow
def test_what_it_remembers_outlives_the_kill_of_both(project: Project, port: int) -> None:
    started = project.json("start")["hosts"]["localhost"]["services"]
    assert {name: one["state"] for name, one in started.items()} == {"postgres": "ready", "letta": "ready"}
    token = (project.folder / ".env").read_text().partition("LETTA_PASSWORD=")[2].split()[0]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(port, "blocks/")
    made = ask(port, "blocks/", token, label="human", value="is called Ada")
    assert isinstance(made, dict)
    assert project.json("start")["changed_count"] == 0
    for seen in project.json("check-running")["hosts"]["localhost"]["services"].values():
        os.kill(seen["pids"][0], signal.SIGKILL)
    project.json("start")
    again = ask(port, f"blocks/{made['id']}", token)
    assert isinstance(again, dict)
    assert again["value"] == "is called Ada"
    agent = ask(port, "agents/", token, name="clerk", model="letta/letta-free", embedding="letta/letta-free")
    assert isinstance(agent, dict)
    assert agent["message_ids"]
    assert token not in (project.folder / ".voiceops/logs/letta.log").read_text()
