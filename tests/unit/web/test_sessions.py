"""Sessions: a room of its own for each caller, one agent on its way, and an end that stays."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.fakes.livekit_api import FakeLivekitApi
from voiceops.adapters.livekit.token import verified_claims
from voiceops.errors import CredentialsError
from voiceops.model.secret import Secret
from voiceops.web import sessions as sessions_module
from voiceops.web.sessions import Session, Sessions

KEY, SECRET = Secret("key"), Secret("s" * 32)


class Made:
    def __init__(self) -> None:
        self.api = FakeLivekitApi()
        self.causes: list[str] = []
        self.sessions = Sessions(
            self.api, KEY, SECRET, browser_url="ws://x", agent_name="bob", on_cause=self.causes.append
        )


def room_of(session: Session) -> str:
    video = verified_claims(session.token, KEY, SECRET, time.time())["video"]
    assert isinstance(video, dict)
    return str(video["room"])


async def test_each_session_has_a_room_of_its_own_with_one_dispatch() -> None:
    made = Made()
    first, second = await made.sessions.make(), await made.sessions.make()
    names = {room_of(first), room_of(second)}
    assert len(names) == 2
    assert set(made.api.rooms) == names
    assert [[one.agent_name for one in made.api.dispatches[name]] for name in names] == [["bob"], ["bob"]]


async def test_an_ended_session_takes_its_room_along_also_one_that_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions_module, "END_AFTER_S", 0.0)
    monkeypatch.setattr(sessions_module, "LOOK_AGAIN_S", 0.1)
    made = Made()
    session = await made.sessions.make()
    room = room_of(session)
    made.sessions.end(session.token, unanswered=True)
    made.sessions.end(session.token)  # a page may say it twice
    (task,) = made.sessions._background
    for _ in range(3):
        while made.api.rooms:
            assert not task.done()
            await asyncio.sleep(0.01)
        made.api.put(
            room
        )  # by a dispatch that was in flight: first that of the session, then of the room that it made
    await task
    assert made.api.rooms == {}
    assert made.causes == [
        "no worker has taken the job: none is registered under that name, or it is full or frozen"
    ]
    await made.sessions.close()


@pytest.mark.parametrize("ended_first", [True, False])
async def test_a_page_that_went_before_it_had_its_token_takes_its_room_along(
    monkeypatch: pytest.MonkeyPatch, ended_first: bool
) -> None:
    monkeypatch.setattr(sessions_module, "END_AFTER_S", 0.0)
    monkeypatch.setattr(sessions_module, "LOOK_AGAIN_S", 0.0)
    made = Made()
    if ended_first:
        made.sessions.end_by_ticket("t" * 16)
    other = await made.sessions.make("o" * 16)
    await made.sessions.make("t" * 16)
    if not ended_first:
        made.sessions.end_by_ticket("t" * 16)
    made.sessions.end_by_ticket("t" * 16)
    await asyncio.gather(*made.sessions._background)
    assert set(made.api.rooms) == {room_of(other)}


async def test_only_tokens_of_sessions_end_rooms() -> None:
    made = Made()
    made.api.put("somebody-elses-room")
    with pytest.raises(CredentialsError):
        made.sessions.end("x.y.z")
    assert made.sessions._background == set()
