"""Lost keys, a deleted state folder, a damaged record: each command says what it is and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import API_KEY, API_SECRET
from tests.support.projects import Project, project
from tests.support.servers import IN_THREADS

pytestmark = pytest.mark.timeout(480)
AGENTS = Path(__file__).parent / "agents"
KEYS = f"LIVEKIT_API_KEY={API_KEY}\nLIVEKIT_API_SECRET={API_SECRET}\n"
NOTICE = "were set neither in the environment nor in .env: new random values were made"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """With its keys in .env alone."""
    with project(
        tmp_path_factory.mktemp("why files") / "my project",
        AGENTS / "faulty.py",
        agent={"env": dict(IN_THREADS)},
    ) as made:
        del made.env["LIVEKIT_API_KEY"], made.env["LIVEKIT_API_SECRET"]
        (made.folder / ".env").write_text(KEYS)
        made.inv("start")
        yield made


def services(stack: Project, code: int) -> dict[str, Any]:
    found: dict[str, Any] = stack.inv("check-running", "--json", code=code).json["hosts"]["localhost"][
        "services"
    ]
    return found


def test_a_lost_env_file_is_never_silent(stack: Project) -> None:
    assert services(stack, 0)["livekit"]["state"] == "ready"
    (stack.folder / ".env").unlink()
    lost = services(stack, 2)["livekit"]
    assert "LIVEKIT_API_KEY is not set" in lost["detail"]
    told = stack.inv("why", code=1)
    assert NOTICE in told.err
    assert ".voiceops" in told.err
    assert "[wrong-key]" in told.out
    refused = services(stack, 2)["livekit"]
    assert refused["state"] == "failed"
    assert "refuses this project's API key or secret" in refused["detail"]
    status = stack.inv("status").out
    assert "? rooms" not in status
    assert "refuses this project's API key or secret" in status
    (stack.folder / ".env").write_text(KEYS)
    assert services(stack, 0)["livekit"]["state"] == "ready"


def test_a_misspelled_variable_is_named_when_new_keys_are_made(stack: Project) -> None:
    stack.variables["livekit"]["api_key"] = {"env": "LIVEKIT_API_KEYS"}
    stack.write()
    answer = stack.inv("why", code=1)
    assert "[wrong-key]" in answer.out
    told = answer.err
    assert "LIVEKIT_API_KEYS was set neither in the environment nor in .env" in told
    assert "LIVEKIT_API_KEY is set there: if that is what was meant, correct the name" in told
    stack.variables["livekit"]["api_key"] = {"env": "LIVEKIT_API_KEY"}
    stack.write()
    (stack.folder / ".env").write_text(KEYS)
    assert services(stack, 0)["livekit"]["state"] == "ready"


def test_a_damaged_record_is_removed_and_nothing_is_said_to_be_ended(stack: Project) -> None:
    before = stack.pid("agent")
    (stack.folder / ".voiceops" / "state" / "agent.json").write_text('{"broken')
    told = stack.inv("start")
    assert "state file is damaged: it is removed, the service runs on" in told.out
    assert "ended" not in told.out + told.err
    assert stack.pid("agent") == before


def test_a_deleted_state_folder_is_named_and_start_makes_it_anew(stack: Project) -> None:
    before = stack.pid("agent")
    shutil.rmtree(stack.folder / ".voiceops")
    detail = services(stack, 2)["agent"]["detail"]
    assert ".voiceops was deleted while it ran" in detail
    told = stack.inv("why").out
    assert "[state-folder-deleted]" in told
    assert "machine is full" not in told
    stack.inv("start")
    assert stack.pid("agent") != before
    assert "state-folder-deleted" not in stack.inv("why").out
