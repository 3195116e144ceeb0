"""Releases that fail their first call or never start: no caller meets them, and nobody tries them unasked."""

from __future__ import annotations

import time

import pytest

from tests.support import hosts
from tests.support.bad_releases import (
    AGENT,
    RAISES,
    TONE,
    assert_back,
    callers,
    entrypoint_that,
    good_release,
    ledger,
    runs_of,
    told,
)
from tests.support.servers import Servers, agent_servers

pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, prepared_host: hosts.Machine) -> Servers:
    return agent_servers(tmp_path_factory.mktemp("bad") / "project", [prepared_host], TONE)


@pytest.fixture
def good(servers: Servers, prepared_host: hosts.Machine) -> str:
    """The release that serves before each test: the same code."""
    return good_release(servers, prepared_host)


def test_no_caller_meets_an_entrypoint_that_raises_and_it_is_marked_bad_with_cause_and_time(
    servers: Servers, prepared_host: hosts.Machine, good: str
) -> None:
    entrypoint_that(servers, RAISES)
    began = time.time()
    with callers(servers):
        error = told(servers)
    assert "ConnectionError: no database at db1 (agent.py:" in error["message"]
    assert "marked bad" in error["message"]
    assert f"agent stays at release {good}, which answers a call" in error["message"]
    assert error["stays_with"] == {"agent": good}
    (bad,) = error["bad"].values()
    assert_back(servers, prepared_host, good)
    last = ledger(servers, prepared_host)["releases"][-1]
    assert (last["release"], last["result"]) == (bad, "bad")
    assert "no database at db1" in last["reason"]
    assert last["at"][:10] == time.strftime("%Y-%m-%d", time.localtime(began))
    drift = servers.inv("drift", "--group", "servers", code=2)
    assert f"release {bad} of agent was marked bad at" in drift.out
    assert servers.inv("rollback", "--group", "servers", "--to", bad, code=3)


def test_a_bad_release_is_tried_again_only_when_asked_and_a_fixed_one_at_once(
    servers: Servers, prepared_host: hosts.Machine, good: str
) -> None:
    entrypoint_that(servers, "raise KeyError('one more time')")
    assert f"stays at release {good}" in told(servers)["message"]
    before = runs_of(prepared_host)
    assert len(before) == 2, before
    again = told(servers)
    assert "was marked bad at" in again["message"]
    assert "nothing was changed" in again["message"]
    assert "--yes" in again["hint"]
    assert runs_of(prepared_host) == before
    assert f"stays at release {good}" in told(servers, "--yes")["message"]
    assert_back(servers, prepared_host, good)
    (servers.folder / AGENT).write_text(TONE.read_text() + "\nFIXED = 1\n")
    fixed = servers.deploy()
    assert fixed["call"]["ok"] is True
    assert servers.deploy()["changed_count"] == 0
    servers.inv("drift", "--group", "servers")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('no key')", "RuntimeError: no key (agent.py:"),
    ],
)
def test_an_error_of_python_is_told_with_its_file_and_line(
    servers: Servers, prepared_host: hosts.Machine, good: str, line: str, expected: str
) -> None:
    text = TONE.read_text() + f"\n{line}\n"
    (servers.folder / AGENT).write_text(text)
    number = text.splitlines().index(line) + 1
    message = told(servers)["message"]
    assert expected in message
    assert f"agent.py:{number})" in message
    assert_back(servers, prepared_host, good)


def test_a_deployer_killed_between_the_failed_call_and_going_back_is_finished_by_the_next_deploy(
    servers: Servers, prepared_host: hosts.Machine, good: str
) -> None:
    entrypoint_that(servers, "raise KeyError('killed deployer')")
    process = servers.spawn("deploy", "--group", "servers")
    try:
        assert process.stderr is not None
        lines = iter(process.stderr)
        next(line for line in lines if "going back to release" in line)
    finally:
        process.kill()
        process.communicate()
    assert ledger(servers, prepared_host)["current"]["agent"]["release"] == good
    servers.inv("drift", "--group", "servers", code=2)
    message = told(servers)["message"]
    assert "marked bad" in message
    assert "killed deployer" in message
    assert_back(servers, prepared_host, good)
