"""Several hosts, several roles: Redis, two livekit-servers that share it, agents, and one that watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from livekit import api, rtc

from tests.integration.conftest import Fleet
from tests.support import callers, hosts
from tests.support.live import API_KEY, API_SECRET
from tests.support.roles import REDIS_PASSWORD, ROLES, bring_redis, role_servers
from tests.support.servers import PROJECT, Servers

ENTRY = Path(__file__).parent / "agents" / "tone.py"
pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, fleet: Fleet, host_run: hosts.HostRun, agent_layer: Path
) -> Iterator[Servers]:
    """Nothing is deployed; the first test does it, the others find it. The agents' hosts have the environment."""
    with host_run.cluster(2, layer=agent_layer) as agents:
        machines = [*fleet(4), *agents]
        bring_redis(machines[0])
        yield role_servers(tmp_path_factory.mktemp("roles") / "project", machines, ENTRY)


@pytest.fixture
def deployed(servers: Servers) -> Servers:
    servers.deploy("--no-call")
    return servers


def shown(machine: hosts.Machine, unit: str, what: str) -> str:
    """A property of a running unit; ``unit`` may be a pattern."""
    return machine.shell(
        f"systemctl show -P {what} $(systemctl list-units --plain --no-legend --state=active '{PROJECT}-{unit}'"
        " | cut -d' ' -f1)"
    ).stdout.strip()


def since(machines: Iterable[hosts.Machine], unit: str) -> list[int]:
    """When the unit became active on each host; test hosts share one kernel, and so one clock."""
    return [int(shown(machine, unit, "ActiveEnterTimestampMonotonic")) for machine in machines]


def pids(servers: Servers) -> dict[str, str]:
    return {one.name: shown(one, "*.service", "MainPID") for one in servers.machines}


async def agent_in(person: rtc.Room) -> str:
    for _ in range(200):
        if person.remote_participants:
            return str(next(iter(person.remote_participants)))
        await asyncio.sleep(0.05)
    raise AssertionError("no agent came")


def node_url(machine: hosts.Machine) -> str:
    return f"ws://{machine.address}:7880"


def test_hosts_come_up_in_the_order_of_their_needs_and_a_call_is_answered(servers: Servers) -> None:
    store, media, watch, agents = (servers.groups[name] for name in ("store", "media", "watch", "agents"))
    document = servers.inv("deploy", "--group", "servers", "--json", timeout_s=200).json
    assert document["call"]["ok"] is True
    redis, livekit = since(store, "redis.service"), since(media, "livekit.service")
    assert max(redis) < min(livekit)
    assert max(livekit) < min(since(watch, "watch.service"))
    # The agent names no need: an agent that registers nowhere never gets ready.
    assert max(livekit) < min(since(agents, "agent@*.service"))
    before = pids(servers)
    assert servers.deploy()["changed_count"] == 0
    servers.inv("drift", "--group", "servers")
    assert servers.inv("check-running", "--group", "servers", "--json").json["ok"] is True
    assert pids(servers) == before
    for node in media:  # a caller may dial any node
        servers.inv("call", "--host", node.name)


async def test_a_changed_agent_rolls_over_the_agents_alone_and_the_call_goes_on(deployed: Servers) -> None:
    second = deployed.groups["media"][1]
    before = pids(deployed)
    async with callers.caller(node_url(second), "roles-call") as person:
        agent = await agent_in(person)
        (deployed.folder / "agent" / "agent.py").write_text(f"{ENTRY.read_text()}\nRELEASE = 2\n")
        document = await asyncio.to_thread(deployed.deploy, "--no-call")
        assert agent in person.remote_participants
    rolled = {one.name for one in deployed.groups["agents"]}
    assert {name for name, host in document["hosts"].items() if host.get("changed_count")} == rolled
    after = pids(deployed)
    assert {name for name in before if before[name] != after[name]} <= rolled


async def test_one_call_keeps_every_host_from_being_stopped_or_restarted(deployed: Servers) -> None:
    first, second = deployed.groups["media"]
    before = pids(deployed)
    async with callers.caller(node_url(second), "kept-roles-call") as person:
        agent = await agent_in(person)
        refused = await asyncio.to_thread(deployed.inv, "stop", "--group", "servers", code=1)
        assert "kept-roles-call" in refused.err
        deployed.variables["services"]["livekit"]["log_level"] = "debug"
        deployed.write()
        refused = await asyncio.to_thread(deployed.inv, "deploy", "--group", "servers", code=1)
        assert "nothing was changed" in refused.err
        # Without its Redis a server can't say who is there, and carries the calls on all the same.
        store = deployed.groups["store"][0]
        store.shell(f"systemctl stop {PROJECT}-redis")
        refused = await asyncio.to_thread(deployed.inv, "restart", "--host", first.name, code=1)
        assert "--yes" in refused.err
        store.shell(f"systemctl start {PROJECT}-redis")
        assert agent in person.remote_participants
    del deployed.variables["services"]["livekit"]["log_level"]
    deployed.write()
    after = pids(deployed)
    assert {name for name in before if before[name] != after[name]} == {store.name}


def test_a_changed_server_restarts_one_node_after_the_other(deployed: Servers) -> None:
    first, second = deployed.groups["media"]
    deployed.variables["services"]["livekit"]["log_level"] = "debug"
    deployed.write()
    document = deployed.deploy("--yes")
    assert document["call"]["ok"] is True, "a call through the servers, though no agent's host changed"
    changed = document["hosts"]
    assert {name for name, host in changed.items() if host.get("changed_count")} == {first.name, second.name}
    up_again = since([first], "livekit.service")[0]
    began = int(shown(second, "livekit.service", "InactiveExitTimestampMonotonic"))
    assert up_again < began


async def room_on(servers: Servers, node: hosts.Machine) -> str:
    """The name of a new room without an agent that lies on this node, as LiveKit has written into Redis."""
    store = servers.groups["store"][0]
    ask = f"REDISCLI_AUTH={REDIS_PASSWORD} redis-cli -h {store.address} --raw HGET"
    async with api.LiveKitAPI(node_url(node), API_KEY, API_SECRET) as client:
        for number in range(30):
            name = f"handed-over-{number}"
            nobody = api.RoomAgentDispatch(agent_name="nobody")
            await client.room.create_room(api.CreateRoomRequest(name=name, agents=[nobody]))
            place = store.shell(f"{ask} room_node_map {name}").stdout.strip()
            if node.address in store.shell(f"{ask} nodes {place}").stdout:
                return name
            await client.room.delete_room(api.DeleteRoomRequest(room=name))
    raise AssertionError(f"no room came to lie on {node.name}")


async def test_a_node_hands_its_callers_over_while_it_restarts_and_nobody_is_seen_to_leave(
    deployed: Servers,
) -> None:
    first, second = deployed.groups["media"]
    room = await room_on(deployed, second)
    deployed.variables["services"]["livekit"]["log_level"] = "warn"
    deployed.write()
    before = {node.name: shown(node, "livekit.service", "MainPID") for node in (first, second)}

    def is_new(node: hosts.Machine) -> bool:
        return shown(node, "livekit.service", "MainPID") not in ("", before[node.name])

    left: list[str] = []
    async with callers.caller(node_url(second), room, identity="there") as there:
        there.on("participant_disconnected", lambda one: left.append(one.identity))
        async with callers.caller(node_url(first), room):
            while not there.remote_participants:  # noqa: ASYNC110 - until both see each other
                await asyncio.sleep(0.05)
            deploying = deployed.spawn("deploy", "--group", "servers", "--no-call", "--drain", "90")
            try:
                while not is_new(first):
                    assert deploying.poll() is None, deploying.communicate()
                    await asyncio.sleep(0.2)
                await asyncio.sleep(3.0)
                assert (left, len(there.remote_participants)) == ([], 1)
                assert not is_new(second), "it waits for its call"
            except BaseException:
                deploying.kill()
                raise
        await there.disconnect()
    out, err = await asyncio.to_thread(deploying.communicate, timeout=90)
    assert deploying.returncode == 0, out + err
    assert is_new(second)


def test_with_a_node_down_calls_go_through_the_other_and_the_rest_is_deployed(deployed: Servers) -> None:
    first, second = deployed.groups["media"]
    with second.unplugged():
        # For 5 s LiveKit puts rooms on a node that has died; who is among them is connected later, and hears nothing.
        time.sleep(7)
        deployed.inv("call", "--host", first.name)
        deployed.env["WORDS"] = "new"
        deployed.variables["services"]["watch"]["env"] = {"WORDS": "new"}
        deployed.write()
        document = deployed.deploy("--no-call", code=5)["hosts"]
    assert [name for name, host in document.items() if not host["ok"]] == [second.name]
    watch = deployed.groups["watch"][0]
    assert document[watch.name]["changed_count"] > 0


def test_all_roles_stop_in_reverse_and_start_in_order(deployed: Servers) -> None:
    deployed.inv("stop", "--group", "servers", "--yes")
    assert not "".join(pids(deployed).values())
    deployed.inv("start", "--group", "servers")
    store, media, agents = (deployed.groups[name] for name in ("store", "media", "agents"))
    livekit = since(media, "livekit.service")
    assert max(since(store, "redis.service")) < min(livekit)
    assert max(livekit) < min(since(agents, "agent@*.service"))
    assert deployed.deploy("--no-call")["changed_count"] == 0


def test_commands_act_on_the_hosts_that_run_what_they_name(deployed: Servers) -> None:
    everywhere = ("--group", "servers")
    (store,), (watch,) = deployed.groups["store"], deployed.groups["watch"]
    agents = {one.name for one in deployed.groups["agents"]}
    said = deployed.inv("logs", *everywhere, "--only", "agent", "--json").json["lines"]
    assert {(line["host"], line["service"]) for line in said} == {(name, "agent") for name in agents}
    before = pids(deployed)
    assert deployed.inv("restart", *everywhere, "--only", "watch", "--json").json["changed_count"] == 1
    after = pids(deployed)
    assert {name for name in before if before[name] != after[name]} == {watch.name}
    checked = deployed.inv("check-running", *everywhere, "--only", "redis,watch", "--json").json["hosts"]
    assert set(checked) == {store.name, watch.name}
    limited = deployed.inv("check-running", "--limit", "servers:!agents:!media", "--json").json["hosts"]
    assert set(limited) == {store.name, watch.name}
    assert "agent, livekit, redis, watch" in deployed.inv("start", *everywhere, "--only", "web", code=3).err
    shown_status = deployed.inv("status", *everywhere, "--json").json["hosts"]
    expected = {one.name: set(ROLES[role]) for role, machines in deployed.groups.items() for one in machines}
    assert {name: set(one["services"]) for name, one in shown_status.items()} == expected
    # The agents are registered at nodes of their own: to a caller it is one server.
    deployed.inv("call", *everywhere)
    deployed.inv("call", "--group", "media")


def test_agents_restart_and_roll_back_on_their_hosts_and_never_all_at_once(deployed: Servers) -> None:
    everywhere = ("--group", "servers")
    first, second = deployed.groups["agents"]
    deployed.inv("restart", *everywhere, "--only", "agent")
    (up_again,) = since([first], "agent@*.service")
    assert up_again < int(shown(second, "agent@*.service", "InactiveExitTimestampMonotonic"))
    agent = deployed.folder / "agent" / "agent.py"
    good = agent.read_text()
    agent.write_text(f"{good}\nRELEASE = 3\n")
    try:
        deployed.deploy("--no-call")
    finally:
        agent.write_text(good)
    moved = deployed.inv("rollback", *everywhere, "--json").json["hosts"]
    assert {name for name, one in moved.items() if one["services"]} == {first.name, second.name}
    (up_again,) = since([first], "agent@*.service")
    assert up_again < int(shown(second, "agent@*.service", "InactiveExitTimestampMonotonic"))
    assert deployed.deploy("--no-call")["changed_count"] == 0, (
        "the release before is the one that is declared"
    )


async def test_a_server_whose_agents_are_elsewhere_drains_until_its_callers_have_left(
    deployed: Servers,
) -> None:
    second = deployed.groups["media"][1]
    stop = ("stop", "--host", second.name)
    before = pids(deployed)
    async with callers.caller(node_url(second), "drained-roles-call") as person:
        agent = await agent_in(person)
        refused = await asyncio.to_thread(deployed.inv, *stop, "--drain", "1", code=1)
        assert "drained-roles-call" in refused.err
        refused = await asyncio.to_thread(deployed.inv, "restart", "--group", "servers", code=1)
        assert "drained-roles-call" in refused.err
        assert agent in person.remote_participants
        assert pids(deployed) == before
        stopping = deployed.spawn(*stop, "--drain", "60")
        try:
            assert stopping.stderr is not None
            await asyncio.to_thread(next, (line for line in stopping.stderr if "draining" in line))
            assert agent in person.remote_participants
            await person.disconnect()
            out, err = await asyncio.to_thread(stopping.communicate, timeout=60)
        finally:
            stopping.kill()
            stopping.wait()
    assert stopping.returncode == 0, out + err
    assert pids(deployed)[second.name] == ""


def test_the_node_that_the_others_name_is_down_and_callers_of_the_other_are_answered(
    deployed: Servers,
) -> None:
    first, second = deployed.groups["media"]
    with first.unplugged():
        # For 5 s after its last statistics LiveKit still places rooms on the node that is gone: that call is lost.
        calls = (deployed.inv("call", "--host", second.name, code=None) for _ in range(3))
        assert any(call.code == 0 for call in calls)
        everywhere = deployed.inv("status", "--group", "servers", "--json", code=5).json["hosts"]
        assert {name for name, one in everywhere.items() if "error" in one} == {first.name}
