"""Rooms of a dead node: two livekit-servers that share a real Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.rooms import half_open_join
from tests.support import live
from tests.support.redis_server import redis_server
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.doctor.collect import observe_rooms
from voiceops.doctor.diagnose import diagnose
from voiceops.doctor.facts import StackFacts
from voiceops.model.secret import Secret
from voiceops.model.server import ServerFact
from voiceops.model.settings import RoomsSettings
from voiceops.rooms import rules
from voiceops.rooms.cleanup import cleanup_stale_rooms
from voiceops.rooms.rules import Rule

SETTINGS = RoomsSettings(stale_after_s=0.0)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis."""
    with redis_server(tmp_path) as address:
        yield address


@pytest.fixture
def nodes(redis: str, tmp_path: Path) -> Iterator[tuple[live.LiveServer, live.LiveServer]]:
    extra: dict[str, object] = {"redis": {"address": redis}}
    with ExitStack() as running:
        first = running.enter_context(live.livekit_server(tmp_path / "a", extra=extra))
        second = running.enter_context(live.livekit_server(tmp_path / "b", extra=extra))
        yield first, second


@pytest_asyncio.fixture
async def api(nodes: tuple[live.LiveServer, live.LiveServer]) -> AsyncIterator[LivekitApi]:
    """The API by way of the node that stays alive."""
    server = nodes[0]
    async with LivekitApi(server.url, Secret(server.api_key), Secret(server.api_secret)) as session:
        yield session


async def test_rooms_of_a_dead_node_go_for_good_and_those_of_the_living_stay(
    nodes: tuple[live.LiveServer, live.LiveServer], api: LivekitApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty ones at once; one with somebody listed only after the wait for a return."""
    monkeypatch.setattr(rules, "ORPHAN_AFTER_S", 4.0)
    names = [f"room-{number}" for number in range(12)]
    for name in names:
        await api.create_room(name, agents=["__nobody__"])
    async with half_open_join(nodes[1], "ghost", "caller"):
        os.kill(nodes[1].pid, signal.SIGKILL)
    served = await asyncio.gather(*(answers(api, name) for name in names))
    orphans = {name for name, alive in zip(names, served, strict=True) if not alive}
    assert 0 < len(orphans) < len(names), "both nodes should have got rooms"
    seen = StackFacts(
        now=time.time() + 60,  # the rule gives a young room time to be served
        server=ServerFact(url=api.url, reachable=True, status=200, credentials="ok"),
        rooms=(await observe_rooms(api))[0],
    )
    named = {finding.room for finding in diagnose(seen) if finding.rule == "orphan-room"}
    assert named - {"ghost"} == orphans
    ghost_is_orphan = not await answers(api, "ghost")
    settings = RoomsSettings(stale_after_s=0.0, keep=[name for name in names if name not in orphans])
    report = await cleanup_stale_rooms(api, settings)
    assert not report.failed
    gone = {one.snapshot.room.name: one.rule for one in report.deleted}
    assert {name: gone.get(name) for name in orphans} == dict.fromkeys(orphans, Rule.EMPTY)
    if ghost_is_orphan:
        assert gone["ghost"] is Rule.ORPHAN
    await asyncio.sleep(3.0)  # that long a wrong remedy takes to bring them back with agents
    assert {one.name for one in await api.list_rooms()} - {"ghost"} == set(names) - orphans


async def answers(api: LivekitApi, room: str) -> bool:
    """Whether a node serves the room."""
    try:
        await api.list_dispatches(room)
    except Exception:  # noqa: BLE001 - any refusal means the same here
        return False
    return True
