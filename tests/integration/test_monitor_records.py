"""What a running monitor keeps, shows and tells of real calls: history, metrics, alerts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support import parts
from tests.support.callers import Hearing, caller
from tests.support.projects import REPOSITORY, Project, project
from tests.support.servers import IN_THREADS
from tests.support.terminals import OpenTerminal
from tests.unit.alerts.receiver import Receiver, receiver

pytestmark = pytest.mark.timeout(240)
TONE = REPOSITORY / "tests" / "integration" / "agents" / "tone.py"
KEY = "0123456789abcdef0123456789abcdef"
ROOMS = ("alice-1", "alice-2")


@pytest.fixture
def got() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


@pytest.fixture
def made(tmp_path: Path, got: Receiver) -> Iterator[Project]:
    with project(tmp_path / "project", TONE, agent={"env": dict(IN_THREADS)}) as one:
        one.variables["services"]["monitor"] = {"kind": "monitor", "webhook_port": parts.free_port()}
        one.variables["monitor"] = {"interval_s": 1}
        one.variables["metrics"] = {"port": parts.free_port()}
        one.variables["alerts"] = {
            "channels": [f"json://{got.url}/channel"],
            "webhook_url": f"http://{got.url}/hook",
            "webhook_key": KEY,
            "max_rooms": 1,
        }
        one.write()
        one.inv("start", "--timeout", "160")
        yield one


async def one_call(url: str, room: str) -> None:
    """A caller who hears the agent, and leaves."""
    async with caller(url, room, identity="alice") as person, Hearing(person) as hearing:
        await asyncio.wait_for(hearing.something(), 60)


async def two_calls(url: str) -> None:
    """Two callers who hear their agents, stay until a check has seen both, and leave."""
    async with AsyncExitStack() as calls:
        for room in ROOMS:
            person = await calls.enter_async_context(caller(url, room))
            hearing = await calls.enter_async_context(Hearing(person))
            await asyncio.wait_for(hearing.something(), 60)
        await asyncio.sleep(7)  # LiveKit counts participants every 5 s


def soon(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    ends_at = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < ends_at, what()
        time.sleep(0.2)


def test_calls_are_kept_counted_told_of_and_watched(made: Project, got: Receiver) -> None:
    tested = made.inv("monitor", "--test-alert", "--json").json["hosts"]["localhost"]
    assert set(tested["channels"]) == {"channel 1 (json)", "webhook"}
    got.requests.clear()
    asyncio.run(two_calls(made.url))

    def log() -> str:
        return (made.folder / ".voiceops" / "logs" / "monitor.log").read_text()

    def kept() -> dict[str, object]:
        found: dict[str, object] = made.inv("history", "--json").json["hosts"]["localhost"]
        return found

    soon(lambda: kept()["answered_count"] == 2, lambda: (kept(), log()))
    assert kept()["success"] == 1.0
    assert "alice" not in str(kept())
    address = f"http://127.0.0.1:{made.variables['metrics']['port']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        metrics = answer.read().decode()
    assert 'voiceops_calls_total{host="localhost",kind="caller",outcome="answered"} 2.0' in metrics
    assert 'voiceops_call_answer_seconds_count{host="localhost",kind="caller"} 2.0' in metrics
    assert 'voiceops_service_state{host="localhost",service="agent",state="ready"} 1.0' in metrics
    assert "alice" not in metrics

    soon(
        lambda: {path for path, _, _ in got.requests} == {"/channel", "/hook"}, lambda: (got.requests, log())
    )
    headers, body = next((headers, body) for path, headers, body in got.requests if path == "/hook")
    signed = headers["x-voiceops-timestamp"].encode() + b"." + body
    assert (
        headers["x-voiceops-signature"]
        == "sha256=" + hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()
    )
    told = json.loads(body)
    assert (told["alert"], told["state"], told["fix"]) == ("max-rooms", "firing", "inv rooms.list")
    assert "alice" not in str(told)
    hear_of_failing_code(made, got, log)
    watch_the_stack(made)


async def call_that_fails(url: str) -> None:
    """A caller whose agent raises, and who gives up."""
    async with caller(url, "dave-raise"):
        await asyncio.sleep(3)


def hear_of_failing_code(made: Project, got: Receiver, log: Callable[[], str]) -> None:
    """What only `why` finds, and only a person can correct, is told with its sentence and fix, and ends with a good call."""
    asyncio.run(call_that_fails(made.url))

    def told() -> list[dict[str, Any]]:
        bodies = [json.loads(body) for path, _, body in got.requests if path == "/hook"]
        return [one for one in bodies if one["alert"] == "calls-failed"]

    soon(lambda: bool(told()), lambda: (got.requests, log()))
    assert "RuntimeError: an entrypoint that fails" in told()[0]["sentence"]
    assert told()[0]["fix"].startswith("correct ")
    assert "agent/agent.py:" in told()[0]["fix"]
    assert "dave" not in str(told())

    def incidents() -> list[dict[str, Any]]:
        found = made.inv("history", "--incidents", "--json").json["hosts"]["localhost"]["incidents"]
        return [one for one in found if one["cause"] == "calls-failed"]

    soon(lambda: [one["ended_at"] for one in incidents()] == [None], lambda: (incidents(), log()))
    once = made.inv("monitor", "--once", "--json", code=2).json["hosts"]["localhost"]
    assert [one["rule"] for one in once["findings"]] == ["calls-failed"]
    asyncio.run(one_call(made.url, "erin"))
    soon(lambda: incidents()[0]["ended_at"] is not None, lambda: (incidents(), log()))


async def call_while_it_is_watched(url: str, terminal: OpenTerminal) -> None:
    """A caller whose room and agent stand in the view while the call goes on."""
    async with caller(url, "\x1b[2Jcarol\u202e") as person, Hearing(person) as hearing:
        await asyncio.wait_for(hearing.something(), 60)
        await asyncio.to_thread(
            terminal.wait_for, lambda seen: any("carol" in row and "agent" in row for row in seen.rows)
        )


def watch_the_stack(made: Project) -> None:
    """The live view of a call and of an agent that is killed and comes back, at two sizes; it ends on SIGTERM."""
    with made.on_terminal("status", "--watch", columns=80, lines=24) as terminal:
        terminal.wait_for(lambda seen: "3 of 3 ready" in "".join(seen.rows[:1]))
        asyncio.run(call_while_it_is_watched(made.url, terminal))
        assert any("\\x1b[2Jcarol\\u202e" in row for row in terminal.rows)
        os.kill(made.pid("agent"), signal.SIGKILL)
        terminal.wait_for(lambda seen: any("fix: ./inv start --only agent" in row for row in seen.rows))
        terminal.wait_for(
            lambda seen: (
                "3 of 3 ready" in "".join(seen.rows[:1]) and any("start agent" in row for row in seen.rows)
            )
        )
        terminal.resize(200, 50)
        terminal.wait_for(lambda seen: any("is gone" in row and "start agent" in row for row in seen.rows))
        assert len(terminal.rows) <= 50
        terminal.process.terminate()
        assert terminal.end() == -signal.SIGTERM
        assert terminal.restored


def test_calls_of_an_agent_with_agentkit_are_kept_without_webhooks_and_once_with_them(tmp_path: Path) -> None:
    with project(tmp_path / "project", REPOSITORY / "examples" / "agent" / "agent.py") as made:
        made.variables["services"]["monitor"] = {"kind": "monitor"}
        made.variables["monitor"] = {"interval_s": 1}
        made.write()
        made.inv("start", "--timeout", "160")

        def ended() -> list[dict[str, Any]]:
            calls = made.inv("history", "--calls", "--json").json["hosts"]["localhost"]["calls"]
            assert "alice" not in str(calls)
            return [one for one in calls if one["ended_at"] is not None]

        asyncio.run(one_call(made.url, "alice-without"))
        soon(lambda: len(ended()) == 1, ended)
        made.variables["services"]["monitor"]["webhook_port"] = parts.free_port()
        made.write()
        made.inv("start", "--timeout", "160")
        asyncio.run(one_call(made.url, "alice-with"))
        made.inv("call", "--room", "alice-of-a-test")
        soon(lambda: len(ended()) == 3, ended)
        time.sleep(3)  # checks enough that whatever else tells of these calls has done so
        without, told, placed = calls = ended()
        assert [one["kind"] for one in calls] == ["caller", "caller", "test"]
        assert {one["outcome"] for one in calls} == {"answered"}
        assert 0 < without["answer_s"] < 30
        assert 0 < told["answer_s"] < 30
        assert 0 < placed["answer_s"] < 30
