"""People for tests: they join a room over WebRTC with a microphone, and leave."""

from __future__ import annotations

import asyncio
import datetime
import math
import time
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
async def caller(
    url: str, room: str, *, identity: str = "caller", microphone: bool = True
) -> AsyncIterator[rtc.Room]:
    """Somebody who is in the room with a (silent) microphone until the block ends; without one who listens only."""
    person = rtc.Room()
    await person.connect(url, token(room, identity=identity))
    try:
        if not microphone:
            yield person
            return
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


PAUSE_LIMIT_S = 10.0
"""A call that was cut off stays silent, or has another agent; a machine under load makes pauses of seconds."""


class Hearing:
    """What a caller hears of everybody else: how long the longest pause between two loud moments was."""

    def __init__(self, person: rtc.Room) -> None:
        self._person = person
        self._tasks: set[asyncio.Task[None]] = set()
        self._loud_at: float | None = None
        self._longest_s = 0.0

    async def __aenter__(self) -> Hearing:
        self._person.on("track_subscribed", self._on_track)
        for participant in self._person.remote_participants.values():
            for publication in participant.track_publications.values():
                if publication.track is not None:
                    self._on_track(publication.track)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def longest_pause_s(self) -> float:
        """Up to now; endless when nothing was heard."""
        if self._loud_at is None:
            return math.inf
        return max(self._longest_s, time.monotonic() - self._loud_at)

    @property
    def silent_s(self) -> float:
        """Since the last loud moment; endless when nothing was heard."""
        return math.inf if self._loud_at is None else time.monotonic() - self._loud_at

    async def something(self) -> None:
        """Wait for the first sound."""
        for _ in range(400):
            if self._loud_at is not None:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("nothing was heard")

    def _on_track(self, track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._tasks.add(asyncio.get_running_loop().create_task(self._listen(track)))

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=16_000, num_channels=1, frame_size_ms=20)
        try:
            async for event in stream:
                if max(event.frame.data) < 500:
                    continue
                now = time.monotonic()
                self._longest_s = max(self._longest_s, now - (self._loud_at or now))
                self._loud_at = now
        finally:
            await stream.aclose()
