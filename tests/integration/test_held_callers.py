"""While the only livekit-server of a host restarts, whoever calls waits: nobody is refused or cut off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from tests.support import hosts
from tests.support.bad_releases import TONE
from tests.support.callers import agent_in, caller
from tests.support.hosts_ssh import target
from tests.support.servers import PROJECT, Servers, agent_servers
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.remote import verbs
from voiceops.remote.call import call
from voiceops.remote.unit_messages import HoldConnections
from voiceops.systemd.names import HostNames

pytestmark = pytest.mark.timeout(300)
NAMES = HostNames(PROJECT)
PORT = 7880
SOON_S = 20.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, prepared_host: hosts.Machine) -> Servers:
    made = agent_servers(tmp_path_factory.mktemp("held") / "project", [prepared_host], TONE)
    made.deploy()
    return made


def held_ports(machine: hosts.Machine) -> bool:
    """Whether a table of ours is there."""
    return NAMES.nft_table in machine.shell("nft list tables").stdout


def until_held(machine: hosts.Machine) -> None:
    while not held_ports(machine):
        time.sleep(0.02)


def changed_server(made: Servers) -> None:
    """Declare another livekit-server, which the next deploy has to restart."""
    env = made.variables["services"]["livekit"].setdefault("env", {})
    env["TRIAL"] = str(int(env.get("TRIAL", 0)) + 1)
    made.write()


@asynccontextmanager
async def dialling(address: str) -> AsyncIterator[list[str]]:
    """Somebody connects every tenth of a second until the block ends; what went wrong."""
    failures: list[str] = []
    over = asyncio.Event()
    dialled: set[asyncio.Task[None]] = set()

    async def dial() -> None:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, PORT), SOON_S)
            writer.close()
        except (OSError, asyncio.TimeoutError) as error:
            failures.append(repr(error))

    async def again() -> None:
        while not over.is_set():
            dialled.add(asyncio.create_task(dial()))
            await asyncio.sleep(0.1)

    going = asyncio.create_task(again())
    try:
        yield failures
    finally:
        over.set()
        await going
        await asyncio.wait(dialled)


async def meets_an_agent(made: Servers, room: str) -> None:
    """Call as soon as the server is about to restart."""
    machine = made.machines[0]
    await asyncio.to_thread(until_held, machine)
    async with caller(f"ws://{machine.address}:{PORT}", room) as person:
        await agent_in(person)


def test_who_calls_while_the_server_restarts_gets_through_and_has_an_agent(servers: Servers) -> None:
    machine = servers.machines[0]
    before = machine.shell(f"systemctl show -P MainPID {PROJECT}-livekit").stdout
    changed_server(servers)

    async def deployed() -> list[str]:
        async with dialling(machine.address) as failures:
            calling = asyncio.create_task(meets_an_agent(servers, "meanwhile"))
            await asyncio.to_thread(servers.deploy, "--no-call")
            await asyncio.wait_for(calling, SOON_S)
        return failures

    assert asyncio.run(deployed()) == []
    assert machine.shell(f"systemctl show -P MainPID {PROJECT}-livekit").stdout != before
    assert not held_ports(machine)


def test_a_host_without_nft_restarts_its_server_as_well(servers: Servers) -> None:
    machine = servers.machines[0]
    changed_server(servers)
    machine.shell("mv /usr/sbin/nft /usr/sbin/nft.away")
    try:
        servers.deploy()
    finally:
        machine.shell("mv /usr/sbin/nft.away /usr/sbin/nft")
    assert servers.deploy()["changed_count"] == 0


def test_callers_get_through_whatever_becomes_of_the_deployer(servers: Servers) -> None:
    machine = servers.machines[0]

    def reached(timeout_s: float) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection((machine.address, PORT), timeout=timeout_s).close()
            return True
        return False

    request = HoldConnections(state_dir=NAMES.state, table=NAMES.nft_table, ports=[PORT])
    with closing(SshTransport(target(machine))) as transport:
        answer = call(transport, verbs.HOLD_CONNECTIONS, request)
        assert answer["held"], answer["why"]
        assert not reached(0.5)
        machine.shell(f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{PORT}'")
        call(transport, verbs.HOLD_CONNECTIONS, HoldConnections(**{**request, "ports": []}))
        assert not held_ports(machine)
        assert reached(SOON_S)
        call(transport, verbs.HOLD_CONNECTIONS, request)
    assert not reached(0.5)
    assert reached(SOON_S), "nobody let them in, and the time limit did not"
