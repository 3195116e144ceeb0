"""The shipped examples answer real calls without any cloud account."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from livekit import rtc

from examples.rental.agent import equipment
from examples.rental.source import Source, application
from tests.support import live, parts
from tests.support.callers import token
from tests.support.letta_server import TOKEN, LettaStandIn, serving
from voiceops.agentkit.speech.offline import OfflineTts
from voiceops.model.loudness import Loudness

CLOUD_KEYS = ("OPENAI_API_KEY", "DEEPGRAM_API_KEY", "CARTESIA_API_KEY", "LIVEKIT_INFERENCE_API_KEY")
OFFLINE = dict.fromkeys(CLOUD_KEYS, "")


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
                await asyncio.wait_for(self._news.wait(), 20)
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
async def call(server: live.LiveServer) -> AsyncIterator[Person]:
    name = f"example-{secrets.token_hex(4)}"
    microphone = rtc.AudioSource(22_050, 1)
    person = Person(rtc.Room(), microphone)
    await person.room.connect(server.url, token(name))
    try:
        await person.room.local_participant.publish_track(
            rtc.LocalAudioTrack.create_audio_track("microphone", microphone),
            rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE),
        )
        yield person
    finally:
        await person.hang_up()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[live.LiveServer]:
    """A server of its own: the examples take implicit dispatches."""
    with live.livekit_server(tmp_path) as server:
        yield server


async def test_the_example_agent_greets_and_plays_back_what_the_caller_said(
    server: live.LiveServer, repository: Path
) -> None:
    with live.worker(server, repository / "examples/agent/agent.py", agentkit=True, env=OFFLINE):
        async with call(server) as person:
            await asyncio.wait_for(person.speech.wait(), 20)
            await person.hears("This is your voice agent")
            person.silence.clear()
            await person.says("I would like to rent a digger for two days.")
            await person.hears("You said:")
            person.speech.clear()
            await person.hears("seconds of speech")


@pytest.fixture
async def source() -> AsyncIterator[tuple[Source, str]]:
    """The rental's back office, with its address."""
    source, port = Source(), parts.free_port()
    runner = web.AppRunner(application(source), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield source, f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_the_rental_answers_every_call_whatever_its_source_does(
    server: live.LiveServer, repository: Path, source: tuple[Source, str]
) -> None:
    office, url = source
    agent = repository / "examples/rental/agent.py"
    with live.worker(server, agent, agentkit=True, env=OFFLINE | {"RENTAL_URL": url}):
        office.status, began = 429, time.monotonic()
        async with call(server) as person:
            await person.hears("I can't see our stock right now")
        office.status, office.hang = 200, True
        for _ in range(2):
            async with call(server) as person:
                await person.hears("I can't see our stock right now")
        pauses = (time.monotonic() - began) // equipment.options.retry_after_s
        assert office.requests["equipment"] <= 1 + pauses, "a source that has just failed is not asked"

        await asyncio.sleep(equipment.options.retry_after_s)
        office.hang, office.delay_s = False, 0.4
        office.requests.clear()
        for _ in range(2):
            async with call(server) as person:
                await person.hears("2 diggers at 120 euros")
        assert office.requests["equipment"] == 1, "the jobs share one cache"

        async with call(server) as person:
            await person.hears("2 diggers")
            await person.says("Yes please, the digger.")
            await person.hears("1 left")
        async with call(server) as person:
            await person.hears("1 diggers")
        assert office.requests["bookings"] == 1
        assert office.requests["equipment"] == 2, "once more after the booking"


async def test_the_agent_of_letta_answers_every_call_whatever_letta_does(
    server: live.LiveServer, repository: Path
) -> None:
    letta = LettaStandIn(delay_s=3600)
    async with serving(letta) as url:
        env = OFFLINE | {"LETTA_URL": url, "LETTA_PASSWORD": TOKEN, "OPENAI_BASE_URL": ""}
        with live.worker(server, repository / "examples/letta/agent.py", agentkit=True, env=env):
            async with call(server) as person:
                await person.hears("My memory is out of reach")
            letta.delay_s = 0.0
            async with call(server) as person:
                await person.hears("This is your voice agent")
                await person.says_until_hears("I heard [")
                letta.status = 500
                await person.says_until_hears("You said:")
            assert len(letta.agents) == 1
