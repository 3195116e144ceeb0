"""People for tests: they join a room over WebRTC with a microphone, and leave."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from livekit import api, rtc

from tests.support.live import API_KEY, API_SECRET


def token(room: str, *, identity: str = "caller", life_s: float = 3600, secret: str = API_SECRET) -> str:
    """A token to join one room."""
    return (
        api.AccessToken(API_KEY, secret)
        .with_identity(identity)
        .with_ttl(datetime.timedelta(seconds=life_s))
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .to_jwt()
    )


@asynccontextmanager
async def caller(url: str, room: str, *, identity: str = "caller") -> AsyncIterator[rtc.Room]:
    """Somebody who is in the room with a (silent) microphone until the block ends."""
    person = rtc.Room()
    await person.connect(url, token(room, identity=identity))
    try:
        source = rtc.AudioSource(48_000, 1)
        await person.local_participant.publish_track(
            rtc.LocalAudioTrack.create_audio_track("microphone", source),
            rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE),
        )
        yield person
    finally:
        await person.disconnect()


async def agent_in(person: rtc.Room) -> str:
    """The identity of the agent that came to this caller."""
    for _ in range(400):
        if person.remote_participants:
            return next(iter(person.remote_participants))
        await asyncio.sleep(0.05)
    raise AssertionError("no agent came")
