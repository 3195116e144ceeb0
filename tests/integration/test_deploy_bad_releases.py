"""Releases that become ready and then answer no call: the host goes back by itself, and nobody tries them unasked."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Fleet
from tests.support import hosts
from tests.support.servers import PROJECT, Servers, agent_servers

TONE = Path(__file__).parent / "agents" / "tone.py"
AGENT = Path("agent", "agent.py")
RAISES = "raise ConnectionError('no database at db1')"
ACCEPTS = "    await request.accept()\n"
MAIN = "if __name__ =="
BLOCKED = """def _block(*_: object) -> None:
    asyncio.get_running_loop().call_later(0.2, time.sleep, 600)


server.on("worker_registered", _block)


"""

pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def host(prepared_host: hosts.Machine) -> hosts.Machine:
    """With the agents' environment: its making is not what is tested here."""
    return prepared_host


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, host: hosts.Machine) -> Servers:
    made = agent_servers(tmp_path_factory.mktemp("bad") / "project", [host], TONE)
    made.write()
    made.inv("deploy", "--group", "servers", timeout_s=300)
    return made


@pytest.fixture
def fleet(host_run: hosts.HostRun, agent_layer: Path) -> Iterator[Fleet]:
    """Prepared hosts for one test alone: a release is marked bad on its host for all who deploy it there."""
    with ExitStack() as running:
        yield lambda count: running.enter_context(host_run.cluster(count, layer=agent_layer))


@pytest.fixture
def good(servers: Servers, host: hosts.Machine) -> str:
    """The release that serves before each test: the same code."""
    (servers.folder / AGENT).write_text(TONE.read_text())
    document = servers.deploy("--yes")
    return str(document["hosts"][host.name]["release"])


def entrypoint_that(servers: Servers, does: str) -> None:
    """A new release whose calls do that before anything else."""
    begin = '    mode = ctx.job.room.name.rpartition("-")[2]\n'
    text = TONE.read_text()
    assert begin in text
    (servers.folder / AGENT).write_text(text.replace(begin, f"    {does}\n{begin}"))


def told(servers: Servers, *flags: str) -> Any:
    """The error of a deploy that fails, and what it said meanwhile."""
    failed = servers.inv("deploy", "--group", "servers", "--json", *flags, code=1, timeout_s=300)
    (one,) = failed.json["hosts"].values()
    return one["error"]


def ledger(servers: Servers, host: hosts.Machine) -> Any:
    return servers.inv("releases", "--group", "servers", "--json").json["hosts"][host.name]


def serving(host: hosts.Machine) -> set[str]:
    """Releases of the agents that are active: none that drains."""
    shown = host.shell(f"systemctl list-units --plain --no-legend --state=active '{PROJECT}-agent@*'").stdout
    return {line.split()[0].partition("@")[2].partition(".")[0] for line in shown.splitlines()}


def runs_of(host: hosts.Machine) -> dict[str, str]:
    """The services that are active, each with the id of its run; those that drain come and go."""
    shown = host.shell(
        f"systemctl show --property=Id,ActiveState,InvocationID '{PROJECT}-agent@*' '{PROJECT}-livekit*.service'"
    ).stdout
    units = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.strip().split("\n\n")]
    return {one["Id"]: one["InvocationID"] for one in units if one["ActiveState"] == "active"}


def assert_back(servers: Servers, host: hosts.Machine, good: str) -> None:
    assert serving(host) == {good}
    assert ledger(servers, host)["current"]["agent"]["release"] == good
    assert servers.inv("status", "--group", "servers", "--json").json["hosts"][host.name]["release"] == good
    servers.inv("call", "--group", "servers")


def test_an_entrypoint_that_raises_takes_the_host_back_and_is_marked_bad_with_cause_and_time(
    servers: Servers, host: hosts.Machine, good: str
) -> None:
    entrypoint_that(servers, RAISES)
    began = time.time()
    error = told(servers)
    assert "ConnectionError: no database at db1 (agent.py:" in error["message"]
    assert "marked bad" in error["message"]
    assert f"agent is back at release {good}, which answers a call" in error["message"]
    assert error["went_back_to"] == {"agent": good}
    (bad,) = error["bad"].values()
    assert_back(servers, host, good)
    last = ledger(servers, host)["releases"][-1]
    assert (last["release"], last["result"]) == (bad, "bad")
    assert "no database at db1" in last["reason"]
    assert last["at"][:10] == time.strftime("%Y-%m-%d", time.localtime(began))
    drift = servers.inv("drift", "--group", "servers", code=2)
    assert f"release {bad} of agent was marked bad at" in drift.out
    assert servers.inv("rollback", "--group", "servers", "--to", bad, code=3)


def test_a_silent_release_goes_back_and_is_tried_again_only_when_asked(
    servers: Servers, host: hosts.Machine, good: str
) -> None:
    entrypoint_that(servers, "await asyncio.Event().wait()")
    assert f"back at release {good}" in told(servers)["message"]
    before = runs_of(host)
    assert len(before) == 2, before
    again = told(servers)
    assert "was marked bad at" in again["message"]
    assert "nothing was changed" in again["message"]
    assert "--yes" in again["hint"]
    assert runs_of(host) == before
    assert f"back at release {good}" in told(servers, "--yes")["message"]
    assert_back(servers, host, good)
    (servers.folder / AGENT).write_text(TONE.read_text() + "\nFIXED = 1\n")
    fixed = servers.deploy()
    assert fixed["call"]["ok"] is True
    assert servers.deploy()["changed_count"] == 0
    servers.inv("drift", "--group", "servers")


@pytest.mark.parametrize(
    ("line", "blocks", "ready_timeout_s", "shown"),
    [
        # Not yet settled: the deploy waits for as long as it may.
        pytest.param(MAIN, f"{BLOCKED}{MAIN}", 30, "health check|no agent joined", id="once-registered"),
        pytest.param(
            ACCEPTS, "    time.sleep(600)\n", 60, "health check|no agent joined", id="at-the-first-call"
        ),
        pytest.param(
            ACCEPTS, f"{ACCEPTS}    time.sleep(600)\n", 60, "health check", id="with-the-first-call-answered"
        ),
    ],
)
def test_an_agent_that_blocks_its_loop_after_it_was_ready_does_not_stay(
    servers: Servers, host: hosts.Machine, good: str, line: str, blocks: str, ready_timeout_s: int, shown: str
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
    assert_back(servers, host, good)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('no key')", "RuntimeError: no key (agent.py:"),
    ],
)
def test_an_error_of_python_is_told_with_its_file_and_line(
    servers: Servers, host: hosts.Machine, good: str, line: str, expected: str
) -> None:
    text = TONE.read_text() + f"\n{line}\n"
    (servers.folder / AGENT).write_text(text)
    number = text.splitlines().index(line) + 1
    message = told(servers)["message"]
    assert expected in message
    assert f"agent.py:{number})" in message
    assert_back(servers, host, good)


def test_a_deployer_killed_between_the_failed_call_and_going_back_is_finished_by_the_next_deploy(
    servers: Servers, host: hosts.Machine, good: str
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
    assert ledger(servers, host)["current"]["agent"]["release"] == good
    servers.inv("drift", "--group", "servers", code=2)
    message = told(servers)["message"]
    assert "marked bad" in message
    assert "killed deployer" in message
    assert_back(servers, host, good)


def test_a_failed_release_without_one_before_it_stays_marked_bad_and_is_never_nothing_to_do(
    tmp_path: Path, fleet: Fleet
) -> None:
    machines = fleet(1)
    servers = agent_servers(tmp_path / "project", machines, TONE)
    entrypoint_that(servers, RAISES)
    servers.write()
    first = told(servers)["message"]
    assert "agent has no earlier good release to go back to" in first
    assert "was marked bad at" in told(servers)["message"]
    drift = servers.inv("drift", "--group", "servers", code=2)
    assert "not proved: no agent joined" in drift.out
    assert "what runs is not proved" in servers.inv("releases", "--group", "servers").out
    (servers.folder / AGENT).write_text(TONE.read_text())
    assert servers.deploy()["call"]["ok"] is True
    assert servers.deploy()["changed_count"] == 0


def test_of_several_hosts_the_first_goes_back_and_the_others_never_get_the_release(
    tmp_path: Path, fleet: Fleet
) -> None:
    machines = fleet(2)
    servers = agent_servers(tmp_path / "project", machines, TONE)
    for machine in machines:
        address = machine.address
        servers.host_variables[machine.name] = {
            "livekit": {"url": f"ws://{address}:7880"},
            "services": {"livekit": {"node_ip": address}},
        }
    servers.write()
    servers.deploy("--yes")
    before = {machine.name: serving(machine) for machine in machines}
    entrypoint_that(servers, RAISES)
    document = servers.deploy(code=1)["hosts"]
    first, second = machines
    assert "is back at release" in document[first.name]["error"]["message"]
    assert document[second.name]["skipped"] == "a host before it failed"
    assert {machine.name: serving(machine) for machine in machines} == before
    again = servers.deploy(code=1)["hosts"]
    assert "was marked bad at" in again[first.name]["error"]["message"]
    assert again[second.name]["skipped"] == f"its release is marked bad on {first.name}", json.dumps(again)
