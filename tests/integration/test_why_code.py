"""An agent whose code fails: why, start, call and recover name the exception, its file and line, and what to do."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import Answer, Project, project
from tests.support.servers import IN_THREADS

pytestmark = pytest.mark.timeout(480)
AGENTS = Path(__file__).parent / "agents"
GOOD = (AGENTS / "faulty.py").read_text()
BROKEN = GOOD + "\n\ndef broken(\n"
RAISES = GOOD.replace("await serve(ctx)", 'raise RuntimeError("no database")')
TIME = r"at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """In a folder with a space in its name."""
    with project(
        tmp_path_factory.mktemp("why code") / "my project",
        AGENTS / "faulty.py",
        agent={"env": dict(IN_THREADS)},
    ) as made:
        made.inv("start")
        yield made


def code(stack: Project, text: str) -> None:
    (stack.folder / "agent" / "agent.py").write_text(text)


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def found(stack: Project, *flags: str, code: int = 1) -> dict[str, dict[str, Any]]:
    """rule -> finding."""
    findings = stack.inv("why", "--json", *flags, code=code).json["findings"]
    return {finding["rule"]: finding for finding in findings}


def test_a_healthy_call_leaves_nothing_to_find(stack: Project) -> None:
    stack.inv("call")
    assert found(stack, code=0) == {}


def test_calls_that_failed_are_found_after_their_callers_have_gone(stack: Project) -> None:
    where = f"agent/agent.py:{line_of(RAISES, 'no database')}"
    code(stack, RAISES)
    stack.inv("start")
    told = stack.inv("call", "--timeout", "8", code=1).out
    assert f"RuntimeError: no database ({where})" in told
    assert "rooms.dispatch" not in told
    stack.inv("call", "--timeout", "8", code=1)
    shown = stack.inv("why", code=1).out
    assert f"The last 2 calls of agent failed: RuntimeError: no database ({where})." in shown
    assert re.search(rf"worker log {TIME}: unhandled exception", shown)
    assert "rooms.dispatch" not in shown
    assert f"correct {where}" in shown


def test_recover_stops_at_code_that_raises_and_restarts_nothing(stack: Project) -> None:
    before = (stack.pid("livekit"), stack.pid("agent"))
    answer = stack.inv("recover", code=1)
    assert "no restart removes the cause" in answer.out
    assert "RuntimeError: no database (agent/agent.py:" in answer.out
    assert "inv recover" not in answer.out + answer.err
    assert (stack.pid("livekit"), stack.pid("agent")) == before


def test_recover_keeps_a_worker_whose_new_code_can_not_be_loaded(stack: Project) -> None:
    serving = stack.pid("agent")
    code(stack, BROKEN)
    try:
        document = stack.inv("recover", "--json", code=1).json["hosts"]["localhost"]
        assert "calls-failed" in document["stopped_by"], document
        assert stack.pid("agent") == serving
        told = stack.inv("start", code=1).err
        assert re.search(r"^error: agent ended .*: SyntaxError", told, re.MULTILINE)
        shown = stack.inv("why", code=1).out
        assert re.search(r"fix: correct agent/agent.py:\d+, then `\S* start --only agent`", shown)
    finally:
        code(stack, RAISES)


def test_failed_calls_are_forgotten_with_the_run_and_shown_when_asked_for(stack: Project) -> None:
    code(stack, GOOD)
    stack.inv("start")
    assert found(stack, code=0) == {}
    earlier = found(stack, "--since", "10m", code=1)["calls-failed"]
    assert "no database" in str(earlier["evidence"])  # later ones met code that can't be loaded
    assert "--since" in stack.inv("why", "--since", "5x", code=3).err


def test_a_syntax_error_is_named_by_start_why_call_and_recover(stack: Project) -> None:
    where = f"(agent/agent.py:{line_of(BROKEN, 'def broken(')})"
    livekit = stack.pid("livekit")
    stack.inv("stop", "--only", "agent", "--yes")
    code(stack, BROKEN)
    said: list[Answer] = [
        stack.inv("start", code=1),
        stack.inv("why", code=1),
        stack.inv("call", "--timeout", "5", code=1),
        stack.inv("recover", code=1),
    ]
    for answer in said:
        assert re.search(rf"SyntaxError: '\(' was never closed {re.escape(where)}", answer.out + answer.err)
        assert "inv recover" not in answer.out + answer.err
    steps = stack.inv("recover", "--json", code=1).json["hosts"]["localhost"]
    assert [step["step"] for step in steps["steps"]] == ["diagnose", "fix"]
    assert stack.pid("livekit") == livekit
    failed = stack.inv("why", "--fix", "--json", code=1).json["hosts"]["localhost"]["fixes"]
    assert "SyntaxError" in failed[0]["detail"]
    code(stack, GOOD)
    assert stack.inv("recover", "--json").json["hosts"]["localhost"]["helped"] == "fix"


def test_an_exception_at_import_is_named_with_its_line(stack: Project) -> None:
    text = 'CUSTOMERS = open("/no/customers.csv")\n'
    code(stack, GOOD.replace("RATE = 48_000\n", text))
    where = f"agent/agent.py:{line_of(GOOD, 'RATE = 48_000')}"
    stack.inv("stop", "--only", "agent", "--yes")
    assert f"({where})" in stack.inv("start", code=1).err
    assert f"({where})" in found(stack)["agent-code"]["cause"]
    code(stack, GOOD)
    stack.inv("start")
    assert found(stack, code=0) == {}


def test_new_code_that_can_not_be_loaded_is_told_while_the_old_one_serves(stack: Project) -> None:
    code(stack, BROKEN)
    assert "keeps serving" in stack.inv("start", code=1).err
    old = found(stack, code=0)["old-code"]
    assert any("SyntaxError" in line for line in old["evidence"])
    code(stack, GOOD)


def test_an_agent_that_names_itself_otherwise_is_told_apart_from_a_lost_dispatch(stack: Project) -> None:
    code(stack, GOOD.replace("@server.rtc_session()", '@server.rtc_session(agent_name="bob")'))
    sentence = "registered as 'bob', the inventory declares ''"
    started = stack.inv("start").out
    assert f"warning: agent {sentence}" in started
    assert re.search(r"^next: .* why$", started, re.MULTILINE)
    assert f"warning: agent {sentence}" in stack.inv("start").out  # nothing to do, and still so
    checked = stack.inv("check-running", "--json", code=2).json["hosts"]["localhost"]["services"]["agent"]
    assert (checked["state"], sentence in checked["detail"]) == ("failed", True)
    said = [
        stack.inv("why", code=1),
        stack.inv("call", "--timeout", "5", code=1),
        stack.inv("recover", code=1),
    ]
    for answer in said:
        assert sentence in answer.out
        assert "dispatch-lost" not in answer.out
    code(stack, GOOD)
    stack.inv("start")
    assert found(stack, code=0) == {}


def test_a_room_that_does_not_stand_is_said_to_be_none(stack: Project) -> None:
    answer = stack.inv("why", "--room", "NOPE", code=1)
    assert "there is no room 'NOPE'" in answer.err
    assert "rooms.list" in answer.err


@pytest.mark.parametrize("sent", [signal.SIGSTOP, signal.SIGKILL])
def test_a_call_to_a_frozen_or_dead_server_says_what_to_do_next(stack: Project, sent: signal.Signals) -> None:
    os.kill(stack.pid("livekit"), sent)
    try:
        told = stack.inv("call", "--timeout", "5", code=5).out
        down = found(stack)["server-down"]
    finally:
        stack.inv("why", "--fix", code=None)
    assert "server-down" in told
    assert "fix: " in told
    assert "inv start" in told
    assert "os error" not in told
    assert "ICE" not in told
    assert [line for line in down["evidence"] if "data channel" in line] == []
    stack.inv("call")
