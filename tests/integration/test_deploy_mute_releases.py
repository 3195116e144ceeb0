"""Releases that become ready and then answer no call, or nothing at all: the host goes back by itself."""

from __future__ import annotations

import re

import pytest

from tests.support import hosts
from tests.support.bad_releases import (
    AGENT,
    TONE,
    assert_back,
    callers,
    deploys,
    entrypoint_that,
    good_release,
    told,
)
from tests.support.servers import Servers, agent_servers

ACCEPTS = "    await request.accept()\n"
MAIN = "if __name__ =="
BLOCKED = """def _block(*_: object) -> None:
    asyncio.get_running_loop().call_later(0.2, time.sleep, 600)


server.on("worker_registered", _block)


"""

pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, prepared_host: hosts.Machine) -> Servers:
    return agent_servers(tmp_path_factory.mktemp("mute") / "project", [prepared_host], TONE)


@pytest.fixture
def good(servers: Servers, prepared_host: hosts.Machine) -> str:
    """The release that serves before each test: the same code."""
    return good_release(servers, prepared_host)


def test_no_caller_meets_a_silent_release(servers: Servers, prepared_host: hosts.Machine, good: str) -> None:
    entrypoint_that(servers, "await asyncio.Event().wait()")
    with callers(servers):
        error = told(servers)
    message = error["message"]
    assert "no agent joined within" in message
    assert f"agent stays at release {good}, which answers a call" in message
    assert error["stays_with"] == {"agent": good}
    assert "marked bad" in message
    assert_back(servers, prepared_host, good)
    failed = deploys(servers, prepared_host)[-1]
    assert (failed["action"], failed["ok"], failed["detail"]) == ("deploy", False, message)
    assert failed["release"] not in ("", good)
    assert failed["by"] != ""


@pytest.mark.parametrize(
    ("line", "blocks", "ready_timeout_s", "shown"),
    [
        # Its call is given up once systemd has ended it, whose watchdog hears nothing of it.
        pytest.param(
            MAIN,
            f"{BLOCKED}{MAIN}",
            20,
            "health check|no agent joined|ended before it was heard",
            id="once-registered",
        ),
        pytest.param(
            ACCEPTS, f"{ACCEPTS}    time.sleep(600)\n", 60, "health check", id="with-the-first-call-answered"
        ),
    ],
)
def test_an_agent_that_blocks_its_loop_after_it_was_ready_does_not_stay(
    servers: Servers,
    prepared_host: hosts.Machine,
    good: str,
    line: str,
    blocks: str,
    ready_timeout_s: int,
    shown: str,
) -> None:
    text = TONE.read_text()
    assert line in text
    (servers.folder / AGENT).write_text(text.replace(line, blocks))
    servers.variables["services"]["agent"]["ready_timeout_s"] = ready_timeout_s
    servers.write()
    try:
        message = told(servers)["message"]
    finally:
        del servers.variables["services"]["agent"]["ready_timeout_s"]
        servers.write()
    assert re.search(shown, message)
    assert "marked bad" in message
    assert_back(servers, prepared_host, good)
