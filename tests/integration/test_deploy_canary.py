"""A new release takes a share of new calls beside the one that serves: what becomes of it."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.support import hosts
from tests.support.bad_releases import AGENT, TONE, assert_back, good_release, serving, told, turns_bad
from tests.support.servers import Servers, agent_servers

CANARY = ("--canary", "50%", "--for", "5m")
SOON_S = 60.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, prepared_host: hosts.Machine) -> Servers:
    return agent_servers(tmp_path_factory.mktemp("canary") / "project", [prepared_host], TONE)


@pytest.fixture
def good(servers: Servers, prepared_host: hosts.Machine) -> str:
    """The release that serves before each test: the same code."""
    return good_release(servers, prepared_host)


def test_a_canary_whose_calls_fail_goes_back_by_itself(
    servers: Servers, prepared_host: hosts.Machine, good: str
) -> None:
    (servers.folder / AGENT).write_text(turns_bad(TONE.read_text()))
    calling = servers.spawn(
        "call", "--group", "servers", "--json", "--count", "1000", "--concurrency", "2", "--hold", "1"
    )
    try:
        error = told(servers, *CANARY)
    finally:
        calling.send_signal(signal.SIGINT)
        out, err = calling.communicate(timeout=60)
    canary = error["canary"]
    assert canary["share"] == 0.5
    assert canary["new"]["failed_count"] >= 2, error
    assert canary["old"] == {**canary["old"], "release": good, "failed_count": 0}
    assert "marked bad" in error["message"]
    assert json.loads(out)["answered_count"] >= 1, err
    assert_back(servers, prepared_host, good)


def test_what_a_killed_deployer_leaves_is_named_and_finished_by_the_next_deploy(
    servers: Servers, prepared_host: hosts.Machine, good: str
) -> None:
    (servers.folder / AGENT).write_text(f"{TONE.read_text()}\nRELEASE = 2\n")
    deploying = servers.spawn("deploy", "--group", "servers", *CANARY)
    ends_at = time.monotonic() + SOON_S
    while True:
        document = servers.inv("status", "--group", "servers", "--json", code=None).json
        agent = document["hosts"][prepared_host.name]["services"]["agent"]
        if "canary" in agent["detail"]:
            break
        assert time.monotonic() < ends_at, f"{agent}\n{deploying.communicate(timeout=300)}"
    deploying.kill()
    deploying.communicate()
    assert len(serving(prepared_host)) == 2
    left = servers.inv("check-running", "--group", "servers", "--json").json["hosts"][prepared_host.name]
    assert (
        left["services"]["agent"]["state"],
        "50% of new calls" in left["services"]["agent"]["detail"],
    ) == (
        "ready",
        True,
    )
    finished = servers.deploy()["hosts"][prepared_host.name]
    assert serving(prepared_host) == {finished["release"]} != {good}
    assert servers.deploy()["changed_count"] == 0
    servers.inv("call", "--group", "servers")


def test_what_makes_no_sense_is_refused_before_anything_changes(servers: Servers) -> None:
    everywhere = ("deploy", "--group", "servers")
    for flags in (("--canary", "0%"), ("--for", "10m"), (*CANARY, "--no-call")):
        refused = servers.inv(*everywhere, *flags, code=3)
        assert "hint:" in refused.err
