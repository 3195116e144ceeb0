"""Bad releases where there is no earlier one to go back to, and where other hosts wait for their turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import Fleet
from tests.support import hosts
from tests.support.bad_releases import AGENT, RAISES, TONE, entrypoint_that, serving, told
from tests.support.servers import agent_servers

pytestmark = pytest.mark.timeout(480)


@pytest.fixture
def fleet(host_run: hosts.HostRun, agent_layer: Path) -> Iterator[Fleet]:
    """Prepared hosts for one test alone: a release is marked bad on its host for all who deploy it there."""
    with ExitStack() as running:
        yield lambda count: running.enter_context(host_run.cluster(count, layer=agent_layer))


def test_a_failed_release_without_one_before_it_stays_marked_bad_and_is_never_nothing_to_do(
    tmp_path: Path, fleet: Fleet
) -> None:
    servers = agent_servers(tmp_path / "project", fleet(1), TONE)
    # Its jobs have processes of their own, as those of most agents: what they raise is in the log all the same.
    del servers.variables["services"]["agent"]["env"]
    entrypoint_that(servers, RAISES)
    servers.write()
    first = told(servers)["message"]
    assert "ConnectionError: no database at db1 (agent.py:" in first
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
    assert "stays at release" in document[first.name]["error"]["message"]
    assert document[second.name]["skipped"] == "a host before it failed"
    assert {machine.name: serving(machine) for machine in machines} == before
    again = servers.deploy(code=1)["hosts"]
    assert "was marked bad at" in again[first.name]["error"]["message"]
    assert again[second.name]["skipped"] == f"its release is marked bad on {first.name}", json.dumps(again)
