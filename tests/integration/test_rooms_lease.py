"""The lease on rooms that several hosts share, in a real Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import parts
from tests.support.callers import caller
from tests.support.fakes.livekit_api import FakeLivekitApi
from tests.support.projects import REPOSITORY, Project, project
from tests.support.redis_server import redis_server
from voiceops.model.settings import RoomsSettings
from voiceops.monitor.rooms_lease import (
    ElectedRoomKeeper,
    LeasedRooms,
    LeaseLostError,
    RedisPlace,
    RoomsLease,
)
from voiceops.rooms.dispatch import LOST_AFTER_S

PASSWORD = "a-password-of-redis"


class Clock:
    """A monitor's clock, which a test moves on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisPlace]:
    with redis_server(tmp_path, password=PASSWORD) as address:
        yield RedisPlace(address=address, password=PASSWORD)


async def answering(lease: RoomsLease) -> None:
    ends_at = time.monotonic() + 10
    while not await lease.take():
        assert time.monotonic() < ends_at
        await asyncio.sleep(0.05)


def lease_of(
    place: RedisPlace, holder: str, *, lasts_s: float = 60.0, said: list[str] | None = None
) -> RoomsLease:
    said = [] if said is None else said
    return RoomsLease(
        place, name="desk", holder=f"{holder}/1", lasts_s=lasts_s, clock=Clock(), say=said.append
    )


async def test_one_of_two_has_it_until_it_lets_go_and_each_election_counts_up(redis: RedisPlace) -> None:
    said: list[str] = []
    first, second = lease_of(redis, "web1"), lease_of(redis, "web2", said=said)
    await answering(first)
    assert (first.token, await second.take(), second.holds) == (1, False, False)
    assert said == ["rooms are looked after by the monitor of web1"]
    assert await first.take()
    assert first.token == 1, "to prolong it is no election"
    await first.release()
    assert not first.holds
    assert await second.take()
    assert (second.token, await first.take()) == (2, False)


async def test_whoever_dies_loses_it_by_time(redis: RedisPlace) -> None:
    first, second = lease_of(redis, "web1", lasts_s=0.3), lease_of(redis, "web2")
    await answering(first)
    assert not await second.take()
    await asyncio.sleep(0.4)
    assert await second.take()
    assert not await first.take()


async def test_a_monitor_that_was_stopped_meanwhile_changes_nothing_any_more(redis: RedisPlace) -> None:
    clock = Clock()
    lease = RoomsLease(redis, name="desk", holder="web1/1", lasts_s=60.0, clock=clock)
    api = FakeLivekitApi()
    await api.create_room("r")
    await answering(lease)
    rooms = LeasedRooms(api, lease)
    clock.ahead_s = 56.0
    with pytest.raises(LeaseLostError):
        await rooms.delete_room("r")
    assert [one.name for one in await rooms.list_rooms()] == ["r"]
    assert await lease.take()
    await rooms.delete_room("r")
    assert await api.list_rooms() == ()


async def test_only_the_elected_one_looks_after_rooms_and_no_one_while_redis_is_away(
    redis: RedisPlace, tmp_path: Path
) -> None:
    said: list[str] = []
    first, second = lease_of(redis, "web1"), lease_of(redis, "web2", said=said)
    await answering(first)
    api = FakeLivekitApi()
    await api.create_room("r")

    def keeper(lease: RoomsLease) -> ElectedRoomKeeper:
        return ElectedRoomKeeper(
            api,
            lease,
            settings=RoomsSettings(),
            agent_names=("",),
            memory=tmp_path / "seen.json",
            say=lambda action, room, reason, error="": None,
        )

    for lease, looked in ((second, 0), (first, 1)):
        one = keeper(lease)
        await one.list()
        await one.look_after()
        assert one.counts().total - one.counts().unknown == looked
    away = lease_of(RedisPlace(address=f"127.0.0.1:{parts.free_port()}"), "web3", said=said)
    assert not await away.take()
    assert "can't be asked" in said[-1]
    wrong = lease_of(RedisPlace(address=redis.address, password="not-the-password"), "web4", said=said)
    assert not await wrong.take()
    assert "not-the-password" not in said[-1]


# -- two monitors --------------------------------------------------------------------------------------------------------


class WatchingMonitor:
    """``inv monitor`` in the foreground, in a folder of its own and without a guard; what it has printed."""

    def __init__(self, first: Project, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        # It has to do with the same LiveKit, and runs nothing of it: an agent that nobody has started.
        agent = {"kind": "agent", "entry": "agent.py", "needs": ["livekit"]}
        variables = {
            **first.variables,
            "services": {**first.variables["services"], "agent": agent},
            "run": ["agent"],
        }
        self.project = Project(folder=folder, url=first.url, variables=variables, env=first.env)
        self.project.write()
        (folder / "agent.py").touch()
        (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
        self.log = folder / "printed.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "voiceops", "--project", str(folder), "monitor"],
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | first.env,
            )

    def printed(self) -> str:
        return self.log.read_text()

    def says(self, text: str, *, within_s: float) -> float:
        """Seconds until it has printed this."""
        began = time.monotonic()
        while text not in self.printed():
            assert time.monotonic() - began < within_s, self.printed()
            time.sleep(0.1)
        return time.monotonic() - began

    def repairs(self) -> list[str]:
        """What it did to rooms."""
        return [line for line in self.printed().splitlines() if "done in" in line]


@contextmanager
def monitors(first: Project, folder: Path, count: int) -> Iterator[list[WatchingMonitor]]:
    running: list[WatchingMonitor] = []
    try:
        for number in range(count):
            running.append(WatchingMonitor(first, folder / f"host-{number}"))
        yield running
    finally:
        for one in running:
            one.process.kill()
            one.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_of_two_monitors_one_is_elected_and_the_other_takes_over_within_the_lease(
    redis: RedisPlace, tmp_path: Path
) -> None:
    with project(tmp_path / "server") as server:
        livekit = server.variables["services"]["livekit"]
        livekit["redis"] = redis.address
        livekit["config"]["redis"] = {"password": PASSWORD}
        server.variables["monitor"] = {"interval_s": 1}
        server.write()
        server.inv("start")
        with monitors(server, tmp_path, 2) as both:
            soon(lambda: any(ELECTED in one.printed() for one in both), both)
            elected, other = sorted(both, key=lambda one: ELECTED not in one.printed())
            other.says("rooms are looked after by the monitor of", within_s=30)
            assert ELECTED not in other.printed()

            elected.process.send_signal(signal.SIGSTOP)
            took_s = other.says("this monitor looks after the rooms (election 2)", within_s=LEASE_S + 15)
            print(f"stopped: the other took over after {took_s:.1f} s")
            elected.process.send_signal(signal.SIGCONT)
            elected.says("rooms are looked after by the monitor of", within_s=15)
            asyncio.run(wait_in(server, "waits"))
            assert (len(elected.repairs()), len(other.repairs()) > 0) == (0, True), both[0].printed()


ELECTED = "this monitor looks after the rooms (election 1)"
LEASE_S = 30.0


def soon(condition: Callable[[], bool], both: Sequence[WatchingMonitor]) -> None:
    ends_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends_at, [one.printed() for one in both]
        time.sleep(0.1)


async def wait_in(server: Project, room: str) -> None:
    """A caller who waits for longer than a dispatch takes to be lost."""
    async with caller(server.url, room):
        await asyncio.sleep(LOST_AFTER_S + 6)
