"""The lease on rooms that several hosts share, in a real Redis."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import parts
from tests.support.fakes.livekit_api import FakeLivekitApi
from voiceops.model.settings import RoomsSettings
from voiceops.monitor.rooms_lease import (
    ElectedRoomKeeper,
    LeasedRooms,
    LeaseLostError,
    RedisPlace,
    RoomsLease,
)

PASSWORD = "a-password-of-redis"


class Clock:
    """A monitor's clock, which a test moves on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisPlace]:
    if not shutil.which("redis-server"):
        parts.missing("redis-server", "install Debian's redis-server")
    port = parts.free_port()
    command = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    process = subprocess.Popen([*command, "--requirepass", PASSWORD], stdout=subprocess.DEVNULL)
    try:
        yield RedisPlace(address=f"127.0.0.1:{port}", password=PASSWORD)
    finally:
        process.kill()
        process.wait()


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
