"""``deploy.wheels: index``: a host that fetches its wheels itself, from an index that only it is told of.

Its LiveKit moves to loopback at the end: then only the host itself can place the call that proves a deploy.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import hosts, parts
from tests.support.package_index import Index, package_index, small_wheel
from tests.support.servers import BARE_HOST_S, PROJECT, Servers, agent_servers
from voiceops.config.shipped import shipped
from voiceops.deploy.own_wheel import own_wheel
from voiceops.deploy.wheelhouse import HostPlatform, wheelhouse

ENTRY = Path(__file__).parent / "agents" / "tone.py"
LOGIN = "reader:a-password-of-the-index-that-nobody-may-see"


@pytest.fixture(scope="module")
def index(host_run: hosts.HostRun) -> Iterator[Index]:
    """All wheels of an agent, on the bridge of the test hosts."""
    cache = parts.cache_folder() / "wheels"
    house = wheelhouse(
        HostPlatform(python=(3, 11), machine=os.uname().machine, libc="2.36"),
        requirements="",
        constraints=shipped("requirements.lock"),
        upload=True,
        own=own_wheel(cache),
        cache=cache,
        say=print,
    )

    def reading(name: str) -> bytes:
        with house.files[name].open() as file:
            return file.read()

    wheels = {
        name: lambda name=name: reading(name)
        for name in house.files
        if not name.startswith(("voiceops-", "uv-"))
    }
    with package_index(host_run.controller_address, wheels) as served:
        yield served


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, host: hosts.Machine, index: Index) -> Servers:
    made = agent_servers(tmp_path_factory.mktemp("index") / "project", [host], ENTRY)
    made.variables["deploy"] |= {"wheels": "index"}
    made.write()
    (host.root / "etc/pip.conf").write_text(f"[global]\nindex-url = {index.url}\n")
    return made


@pytest.fixture(scope="module")
def deployed(servers: Servers) -> Servers:
    assert servers.deploy(timeout_s=BARE_HOST_S)["call"]["ok"] is True
    return servers


@pytest.fixture
def private(deployed: Servers, index: Index, tmp_path: Path) -> Path:
    """A wheel that agents need from now on, known to this machine, not yet to the index."""
    wheel = small_wheel(tmp_path, "frontdesk_crm", "1.2", "CALLS = 1\n")
    (deployed.folder / "requirements.txt").write_text("frontdesk-crm==1.2\n")
    deployed.variables["deploy"]["requirements"] = "requirements.txt"
    deployed.env["UV_FIND_LINKS"] = str(tmp_path)
    deployed.write()
    return wheel


@pytest.mark.timeout(480)
def test_from_a_bare_host_to_a_call_with_wheels_that_the_host_fetched(
    deployed: Servers, host: hosts.Machine, index: Index
) -> None:
    fetched = {path.rsplit("/", 1)[-1] for path in index.asked if path.startswith("/files/")}
    assert any(name.startswith("livekit_agents-") for name in fetched)
    sent = host.shell(f"ls /var/lib/{PROJECT}/wheels").stdout.split()
    # uv, which does the fetching, and voiceops itself, which is on no index.
    assert sorted(name.partition("-")[0] for name in sent) == ["uv", "voiceops"]
    index.asked.clear()
    assert (deployed.deploy()["changed_count"], index.asked) == (0, [])


@pytest.mark.timeout(480)
def test_an_index_that_is_down_fails_the_deploy_and_the_old_agent_serves(
    private: Path, deployed: Servers, index: Index
) -> None:
    index.down = True
    try:
        failed = deployed.inv("deploy", "--group", "servers", code=1)
    finally:
        index.down = False
    assert "from the host's package index" in failed.err
    assert "503" in failed.err
    assert index.url.split("/")[2] in failed.err
    deployed.inv("call", "--group", "servers")


@pytest.mark.timeout(480)
def test_a_wheel_that_is_not_the_locked_one_is_refused_and_the_password_of_the_index_stays_secret(
    private: Path, deployed: Servers, host: hosts.Machine, index: Index, tmp_path: Path
) -> None:
    index.login = LOGIN
    deployed.variables["deploy"]["index_url"] = {"env": "INDEX"}
    deployed.env["INDEX"] = index.url.replace("://", f"://{LOGIN}@")
    deployed.write()
    (tmp_path / "other").mkdir()
    other = small_wheel(tmp_path / "other", "frontdesk_crm", "1.2", "CALLS = 'all yours'\n")
    index.files[private.name] = other.read_bytes
    said = deployed.inv("setup", "--group", "servers", code=1).err
    assert "hash" in said.lower()
    assert "frontdesk" in said
    index.files[private.name] = private.read_bytes
    done = deployed.inv("setup", "--group", "servers")
    shown = (
        said
        + done.out
        + done.err
        + deployed.inv("deploy", "--group", "servers", "--diff", "--check", code=2).out
    )
    password = LOGIN.partition(":")[2]
    assert password not in shown
    host.write("/opt/control", password)
    look = f"find /etc /opt /var /tmp /root -xdev -type f -size -128k -exec grep -lF -e {password} {{}} +"
    assert host.shell(f"{look}; true").stdout.split() == ["/opt/control"]


@pytest.mark.timeout(480)
def test_a_livekit_that_only_the_host_reaches_is_proved_by_a_call_from_there(
    deployed: Servers, host: hosts.Machine
) -> None:
    deployed.variables["livekit"]["url"] = "ws://127.0.0.1:7880"
    for setting in ("public", "node_ip"):
        del deployed.variables["services"]["livekit"][setting]
    deployed.write()
    done = deployed.inv("deploy", "--group", "servers", "--json")
    assert f"calling agent from {host.name}" in done.err
    assert done.json["call"]["ok"] is True
    assert done.json["call"]["audio_s"] > 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host.address, 7880), timeout=5)
    to = ("--host", host.name, "--json")
    assert deployed.inv("call", *to).json["answered_count"] == 1
    assert deployed.inv("status", *to).json["hosts"][host.name]["room_count"] == 0
    assert deployed.inv("rooms.list", *to).json["rooms"] == []
    assert deployed.inv("why", *to).json["ok"] is True
