"""Somebody on the phone, who speaks and listens, and reads what the agent says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from livekit import rtc

from voiceops.agentkit.speech.offline import OfflineTts
from voiceops.model.loudness import Loudness


class Person:
    """Somebody on the phone, who speaks and listens."""

    def __init__(self, room: rtc.Room, microphone: rtc.AudioSource) -> None:
        self.room = room
        self.microphone = microphone
        self.heard: list[str] = []
        self.speech = asyncio.Event()
        """Set at each begin of the agent's speech."""
        self.silence = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        room.register_text_stream_handler(
            "lk.transcription", lambda reader, _: self._keep(self._read(reader))
        )
        room.on("track_subscribed", lambda track, *_: self._keep(self._listen(track)))

    def _keep(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, reader: rtc.TextStreamReader) -> None:
        self.heard.append("")
        mine = len(self.heard) - 1
        async for text in reader:
            self.heard[mine] += text
            self._news.set()

    async def _listen(self, track: rtc.Track) -> None:
        loudness = Loudness()
        async for event in rtc.AudioStream(track, sample_rate=16_000, num_channels=1, frame_size_ms=20):
            voice = loudness.feed(event.frame.data, event.frame.duration, time.monotonic())
            if voice is not None:
                (self.speech if voice.speaking else self.silence).set()

    async def hears(self, words: str) -> str:
        """Wait until the agent has said a sentence with these words."""
        while not any(words in sentence for sentence in self.heard):
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), 60)
            except asyncio.TimeoutError:
                raise AssertionError(f"no {words!r} in {self.heard}") from None
        return next(sentence for sentence in self.heard if words in sentence)

    async def says(self, text: str) -> None:
        """Speak, then be silent."""
        async with OfflineTts().synthesize(text) as stream:
            async for event in stream:
                await self.microphone.capture_frame(event.frame)
        samples = self.microphone.sample_rate // 50
        quiet = rtc.AudioFrame(b"\0\0" * samples, self.microphone.sample_rate, 1, samples)
        for _ in range(75):
            await self.microphone.capture_frame(quiet)

    async def says_until_hears(self, words: str) -> None:
        """Speak again and again until the agent has answered with these words."""
        before = len(self.heard)
        for _ in range(12):
            await self.says("Hello.")
            if any(words in sentence for sentence in self.heard[before:]):
                return
        raise AssertionError(f"no {words!r} in {self.heard}")

    async def hang_up(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.room.disconnect()


@asynccontextmanager
async def person_in_call(url: str, token: str) -> AsyncIterator[Person]:
    """Connect somebody with a microphone; hang up in the end."""
    microphone = rtc.AudioSource(22_050, 1)
    person = Person(rtc.Room(), microphone)
    await person.room.connect(url, token)
    try:
        await person.room.local_participant.publish_track(
            rtc.LocalAudioTrack.create_audio_track("microphone", microphone),
            rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE),
        )
        yield person
    finally:
        await person.hang_up()
