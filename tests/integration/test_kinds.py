"""A kind that is one module and one template runs for real: on this machine, and on a server by a deploy."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Fleet
from tests.support import parts, stacks
from tests.support.kinds import notice
from tests.support.servers import PROJECT, cheap_servers
from tests.support.stacks import Project


@pytest.fixture
def port() -> int:
    return parts.free_port()


@pytest.fixture
def project(tmp_path: Path, port: int) -> Iterator[Project]:
    services = {"board": {"kind": "notice", "text": 'no "calls" today', "port": port}}
    with stacks.project(tmp_path / "project", services) as made:
        notice.add_to(made.folder)
        yield made


def served(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return str(answer.read().decode())


def test_it_starts_is_changed_and_stops_on_this_machine(project: Project, port: int) -> None:
    project.json("start")
    assert served(port) == 'no "calls" today'
    config = project.folder / ".voiceops" / "board.json"
    assert config.stat().st_mode & 0o777 == 0o600
    (pid,) = {process.pid for process in stacks.marked(project.folder) if process.leads}
    project.json("start")
    project.json("check-running")
    assert {process.pid for process in stacks.marked(project.folder) if process.leads} == {pid}
    stacks.write_inventory(
        project.folder, {"board": {"kind": "notice", "text": "all lines are free", "port": port}}
    )
    project.json("start")
    assert served(port) == "all lines are free"
    project.json("stop")
    assert stacks.marked(project.folder) == []


def test_a_deploy_gives_it_a_unit_and_its_files_and_a_second_one_changes_nothing(
    tmp_path: Path, fleet: Fleet
) -> None:
    (machine,) = fleet(1)
    servers = cheap_servers(
        tmp_path / "servers", [machine], board={"kind": "notice", "text": {"env": "NOTICE"}, "port": 4321}
    )
    servers.env["NOTICE"] = "known to the caller only"
    notice.add_to(servers.folder)
    servers.deploy()
    ask = "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:4321/\").read().decode())'"
    assert machine.shell(ask).stdout.strip() == "known to the caller only"
    shown = machine.shell(f"stat -c '%a %U %G' /etc/{PROJECT}/board.json").stdout.split()
    assert shown == ["640", "root", f"vo-{PROJECT}"]
    assert machine.shell(f"systemctl is-enabled {PROJECT}-board").stdout.strip() == "enabled"
    pid = machine.shell(f"systemctl show -P MainPID {PROJECT}-board").stdout
    results = servers.deploy()["hosts"][machine.name]["resources"]
    assert {one["result"] for one in results} == {"ok"}
    assert machine.shell(f"systemctl show -P MainPID {PROJECT}-board").stdout == pid
    rendered = servers.inv("render", "--group", "servers").out
    assert f"{PROJECT}-board.service" in rendered
    assert "known to the caller only" not in rendered
    servers.inv("stop", "--group", "servers")
    assert machine.shell(f"systemctl show -P ActiveState {PROJECT}-board").stdout.strip() == "inactive"
