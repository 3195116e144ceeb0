"""The room API: the same promises on a real livekit-server and on the fake."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.fakes.livekit_api import FakeLivekitApi
from tests.support.live import LiveServer
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.errors import NotFoundError, UnreachableError, UsageError
from voiceops.model.secret import Secret
from voiceops.ports import AgentRoomApi
from voiceops.rooms.removal import delete_room

ODD_NAMES = (
    "a b",
    "\"q' `x`",
    "two\nlines",
    "\U0001f600 \u202e",
    "$(x)",
    "[bold]x[/]",
    "../x",
    "\x1b[31m",
    "x" * 256,
)


@pytest_asyncio.fixture(params=["fake", "real"])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[AgentRoomApi]:
    if request.param == "fake":
        yield FakeLivekitApi()
        return
    server: LiveServer = request.getfixturevalue("livekit")
    async with LivekitApi(server.url, Secret(server.api_key), Secret(server.api_secret)) as real:
        yield real


@pytest_asyncio.fixture
async def room(api: AgentRoomApi) -> AsyncIterator[str]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    yield name
    await delete_room(api, name)


async def test_a_room_is_made_once_and_found_by_name(api: AgentRoomApi, room: str) -> None:
    first = await api.create_room(room, empty_timeout_s=77, departure_timeout_s=5)
    again = await api.create_room(room)
    assert (first.name, first.empty_timeout_s, first.departure_timeout_s) == (room, 77, 5)
    assert again.sid == first.sid
    assert first.created_at > 0
    assert [one.sid for one in await api.list_rooms([room, "no-such-room"])] == [first.sid]
    assert first.sid in {one.sid for one in await api.list_rooms()}


async def test_what_is_not_there_is_an_error_of_its_own_or_an_empty_answer(
    api: AgentRoomApi, room: str
) -> None:
    assert await api.list_participants(room) == ()
    assert await api.list_rooms([room]) == ()
    with pytest.raises(NotFoundError):
        await api.delete_room(room)
    with pytest.raises(NotFoundError):
        await api.remove_participant(room, "nobody")
    await api.create_room(room)
    with pytest.raises(NotFoundError):
        await api.delete_dispatch(room, "AD_nothing")


async def test_dispatches_of_a_room_that_nobody_serves_are_retryably_unreachable(
    api: AgentRoomApi, room: str
) -> None:
    with pytest.raises(UnreachableError) as caught:
        await api.list_dispatches(room)
    assert caught.value.retryable
    assert caught.value.data["status"] == 503


async def test_a_room_promises_the_agents_it_was_made_with_or_one_unnamed(
    api: AgentRoomApi, room: str
) -> None:
    await api.create_room(room, agents=["a", "b"], agent_metadata="m")
    assert {(one.agent_name, one.metadata) for one in await api.list_dispatches(room)} == {
        ("a", "m"),
        ("b", "m"),
    }
    await api.delete_room(room)
    await api.create_room(room)
    assert [one.agent_name for one in await api.list_dispatches(room)] == [""]


async def test_each_dispatch_adds_an_agent_and_a_missing_room_gets_the_unnamed_one_too(
    api: AgentRoomApi, room: str
) -> None:
    made = await api.create_dispatch(room, "x", "meta")
    await api.create_dispatch(room, "x")
    assert sorted(one.agent_name for one in await api.list_dispatches(room)) == ["", "x", "x"]
    assert (made.room, made.agent_name, made.metadata) == (room, "x", "meta")
    await api.delete_dispatch(room, made.id)
    assert made.id not in {one.id for one in await api.list_dispatches(room)}


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_name_comes_back_as_it_was_given(api: AgentRoomApi, name: str) -> None:
    try:
        assert (await api.create_room(name)).name == name
        assert [one.name for one in await api.list_rooms([name])] == [name]
        assert [one.room for one in await api.list_dispatches(name)] == [name]
        assert await api.list_participants(name) == ()
    finally:
        assert await delete_room(api, name)


@pytest.mark.parametrize("name", ["", "x" * 500])
async def test_a_name_that_livekit_refuses_is_a_usage_error(api: AgentRoomApi, name: str) -> None:
    with pytest.raises(UsageError):
        await api.create_room(name)
