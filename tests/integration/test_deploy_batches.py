"""In which order real hosts are deployed: one ahead, batches of ``serial``, and what a failure keeps back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Fleet
from tests.support import hosts
from tests.support.servers import PROJECT, Servers, cheap_servers, sleeper

UNIT = f"{PROJECT}-web.service"


@pytest.fixture
def servers(tmp_path: Path, fleet: Fleet) -> Servers:
    return cheap_servers(tmp_path / "project", fleet(4))


def change(servers: Servers, turn: str) -> None:
    """Another configuration of the service, for all hosts."""
    servers.variables["services"]["web"] = sleeper(env={"TURN": turn})
    servers.write()


def steps(servers: Servers, said: str) -> list[tuple[str, str]]:
    """Host and whether its service began or was ready, in the order in which the command told it."""
    names = "|".join(one.name for one in servers.machines)
    told = re.findall(rf"^({names}): web: (starting|restarting|ready)", said, re.MULTILINE)
    return [(name, "ready" if what == "ready" else "begins") for name, what in told]


def one_by_one(servers: Servers) -> list[tuple[str, str]]:
    return [(one.name, what) for one in servers.machines for what in ("begins", "ready")]


def runs(host: hosts.Machine) -> str:
    """The TURN that the service of a host was started with."""
    main = host.shell(f"systemctl show -P MainPID {UNIT}").stdout.strip()
    said = host.shell(f"tr '\\0' '\\n' < /proc/{main}/environ | grep ^TURN=", check=False).stdout
    return said.strip().removeprefix("TURN=")


def test_a_first_host_alone_then_batches_of_a_share_side_by_side(servers: Servers) -> None:
    """Each host of the batch in the middle is ready only when the other one is up as well."""
    ahead, left, right, last = servers.machines
    listen = ["/usr/bin/python3", "-m", "http.server", "9000"]
    for one, other in ((left, right), (right, left)):
        probe = {"tcp": f"{other.address}:9000"}
        waiting = sleeper(command=listen, port=9000, probe=probe, ready_timeout_s=40)
        servers.host_variables[one.name] = {"services": {"web": waiting}}
    servers.variables["deploy"]["serial"] = "50%"
    servers.write()
    told = steps(servers, servers.inv("deploy", "--group", "servers").err)
    assert told[:2] == [(ahead.name, "begins"), (ahead.name, "ready")]
    assert {name for name, _ in told[2:6]} == {left.name, right.name}
    assert [what for _, what in told[2:4]] == ["begins", "begins"]
    assert told[6:] == [(last.name, "begins"), (last.name, "ready")]


@pytest.mark.parametrize("flags", [("--parallel", "1"), ("--serial", "25%")])
def test_one_host_after_the_other(servers: Servers, flags: tuple[str, str]) -> None:
    servers.deploy()
    change(servers, "-".join(flags))
    told = steps(servers, servers.inv("deploy", "--group", "servers", *flags).err)
    assert sorted(told) == sorted(one_by_one(servers))
    pairs = list(zip(told[::2], told[1::2], strict=True))
    assert all(first[0] == then[0] for first, then in pairs), "a host began before another was ready"
    if flags[0] == "--serial":
        assert told == one_by_one(servers)


def outcome(document: Any) -> list[str]:
    return [
        "skipped" if one.get("skipped") else "ok" if one["ok"] else "failed"
        for one in document["hosts"].values()
    ]


def test_max_fail_is_how_many_hosts_may_fail_before_the_rest_is_left_alone(servers: Servers) -> None:
    servers.deploy()
    first, broken, *rest = servers.machines
    servers.host_variables[broken.name] = {"services": {"web": {"command": ["/bin/false"]}}}
    change(servers, "one")
    stopped = servers.deploy("--serial", "1", code=1)
    assert outcome(stopped) == ["ok", "failed", "skipped", "skipped"]
    assert [runs(one) for one in (first, *rest)] == ["one", "", ""]
    change(servers, "again")
    went_on = servers.deploy("--serial", "1", "--max-fail", "1", code=1)
    assert outcome(went_on) == ["ok", "failed", "ok", "ok"]
    assert [runs(one) for one in (first, *rest)] == ["again", "again", "again"]
    # A host that fails first is the barrier: no number of failures lets the others follow.
    servers.host_variables = {first.name: {"services": {"web": {"command": ["/bin/false"]}}}}
    change(servers, "two")
    kept = servers.deploy("--max-fail", "4", code=1)
    assert outcome(kept) == ["failed", "skipped", "skipped", "skipped"]
    assert [runs(one) for one in rest] == ["again", "again"]
