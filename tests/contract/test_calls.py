"""What a call needs of its edges: the same promises of the fakes and of LiveKit's client with a real agent."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from livekit import api

from tests.support import live, parts, stacks
from tests.support.fakes.phone import FakeCallers, FakePhone
from voiceops.adapters.livekit.rtc import RtcPhone
from voiceops.adapters.livekit.token import caller_token
from voiceops.calls.pool import CallerPool
from voiceops.calls.ports import Callers, Phone
from voiceops.errors import CredentialsError, UnreachableError
from voiceops.model.calls import (
    AgentJoined,
    CallFailure,
    CallJob,
    CallResult,
    CallTarget,
    Disconnected,
    FailureKind,
    PhoneEvent,
    TrackSeen,
    VoiceStarted,
)
from voiceops.model.secret import Secret

ENTRY = stacks.REPOSITORY / "tests" / "integration" / "agents" / "tone.py"
AGENT = f"contract-calls-{os.getpid()}"
"""A name of its own: calls of other tests are not for it."""
EVENTS = (
    AgentJoined(at=0.0, identity="agent-1"),
    TrackSeen(at=0.0),
    VoiceStarted(at=0.0, rms=5000, peak=8000),
)


@dataclass(frozen=True)
class Side:
    """One of the two that keep the contract."""

    url: str
    secret: str
    phone: Callable[[], Phone]
    refused: Callable[[], Phone]
    """What answers a dial with a token that is refused."""
    unreachable: Callable[[], Phone]
    callers: Callable[[], Callers]

    def token(self, room: str, *, secret: str = "") -> str:
        target = CallTarget(
            url=self.url,
            api_key=Secret(live.API_KEY),
            api_secret=Secret(secret or self.secret),
            agent_name=AGENT,
        )
        return caller_token(target)(room, "caller", 60.0)


@pytest.fixture(scope="module")
def answered(livekit: live.LiveServer) -> Iterator[live.LiveServer]:
    """The server, with an agent that plays a tone to whoever asks for it."""
    with live.worker(livekit, ENTRY, env={"TONE_AGENT_NAME": AGENT}):
        yield livekit


@pytest.fixture(params=["fake", "real"])
def side(request: pytest.FixtureRequest) -> Side:
    if request.param == "fake":
        return Side(
            url="ws://fake",
            secret=live.API_SECRET,
            phone=lambda: FakePhone(EVENTS),
            refused=lambda: FakePhone(refuses=CredentialsError("refused")),
            unreachable=lambda: FakePhone(refuses=UnreachableError("nobody there", retryable=True)),
            callers=lambda: FakeCallers(_answer),
        )
    server: live.LiveServer = request.getfixturevalue("answered")
    return Side(
        url=server.url,
        secret=server.api_secret,
        phone=RtcPhone,
        refused=RtcPhone,
        unreachable=RtcPhone,
        callers=lambda: CallerPool(most=1),
    )


def _answer(job: CallJob) -> CallResult:
    if job.url == "ws://fake":
        return CallResult(
            id=job.id, ok=True, room=job.room, identity=job.identity, connect_s=0.1, agent_s=0.2, audio_s=0.3
        )
    failure = CallFailure(kind=FailureKind.NO_CONNECT, detail="nobody there")
    return CallResult(id=job.id, ok=False, room=job.room, identity=job.identity, failure=failure)


@pytest.fixture
def room() -> str:
    return f"contract-{uuid.uuid4().hex[:8]}"


@pytest_asyncio.fixture
async def line(side: Side, room: str) -> AsyncIterator[Phone]:
    """A phone that has dialled, with its microphone open."""
    phone = side.phone()
    try:
        await phone.dial(side.url, side.token(room))
        await phone.open_microphone()
        yield phone
    finally:
        await phone.hang_up()


async def next_of(phone: Phone, kind: type[PhoneEvent]) -> PhoneEvent:
    """The next event of this kind."""
    while not isinstance(event := await asyncio.wait_for(phone.next_event(), 30), kind):
        pass
    return event


async def test_an_agent_joins_then_its_track_is_seen_then_it_is_heard(line: Phone) -> None:
    seen: list[PhoneEvent] = []
    while not seen or not isinstance(seen[-1], VoiceStarted):
        seen.append(await asyncio.wait_for(line.next_event(), 30))
    steps = [type(event) for event in seen if isinstance(event, (AgentJoined, TrackSeen, VoiceStarted))]
    assert steps == [AgentJoined, TrackSeen, VoiceStarted]


@pytest.fixture
def words(tmp_path: Path) -> str:
    """Half a second of sound."""
    path = tmp_path / "words.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\x00\x10\x00\xf0" * 4_000)
    return str(path)


async def test_words_end_after_they_were_begun(line: Phone, words: str) -> None:
    begun = time.monotonic()
    assert await line.say(words) >= begun


async def test_nothing_is_said_before_the_microphone_is_open(side: Side, words: str) -> None:
    with pytest.raises(AssertionError, match="open_microphone"):
        await side.phone().say(words)


async def test_after_a_hang_up_no_more_is_seen_and_a_second_one_is_safe(line: Phone) -> None:
    await next_of(line, AgentJoined)
    await line.hang_up()
    await line.hang_up()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(all_events(line), 1)


async def all_events(phone: Phone) -> None:
    """Read what was seen before the end, then wait; it would end where an event says that the line is cut."""
    while not isinstance(await asyncio.wait_for(phone.next_event(), 0.5), Disconnected):
        pass


async def test_hanging_up_before_dialling_is_safe(side: Side) -> None:
    await side.phone().hang_up()


async def test_a_refused_token_and_a_server_that_is_away_are_told_apart(side: Side, room: str) -> None:
    refused = side.refused()
    with pytest.raises(CredentialsError):
        await refused.dial(side.url, side.token(room, secret="another-secret-of-32-characters-or-more"))
    await refused.hang_up()
    away = side.unreachable()
    with pytest.raises(UnreachableError) as caught:
        await away.dial(f"ws://127.0.0.1:{parts.free_port()}", side.token(room))
    assert not isinstance(caught.value, CredentialsError)
    assert caught.value.retryable
    await away.hang_up()


async def test_a_call_that_the_server_ends_is_disconnected_with_a_reason(side: Side, room: str) -> None:
    ended = Disconnected(at=0.0, reason="ROOM_DELETED")
    fake = side.url == "ws://fake"
    phone = FakePhone([*EVENTS, ended]) if fake else side.phone()
    await phone.dial(side.url, side.token(room))
    await next_of(phone, AgentJoined)
    if not fake:
        async with api.LiveKitAPI(side.url, live.API_KEY, side.secret) as client:
            await client.room.delete_room(api.DeleteRoomRequest(room=room))
    disconnected = await next_of(phone, Disconnected)
    assert isinstance(disconnected, Disconnected)
    assert disconnected.reason == "ROOM_DELETED"
    await phone.hang_up()


async def test_a_call_has_its_times_and_a_failed_one_is_asked_about(side: Side, room: str) -> None:
    callers = side.callers()
    asked: list[int] = []

    async def inquire(result: CallResult) -> None:
        asked.append(result.id)

    def job(number: int, url: str) -> CallJob:
        return CallJob(
            id=number, url=url, token=side.token(room), room=room, identity="caller", timeout_s=30.0
        )

    try:
        good = await callers.place(job(1, side.url), inquire)
        bad = await callers.place(job(2, f"ws://127.0.0.1:{parts.free_port()}"), inquire)
        _processes, cpu_s, _lags = await callers.usage()
    finally:
        await callers.aclose()
    assert (good.id, good.ok, good.room, good.identity, good.failure) == (1, True, room, "caller", None)
    assert good.connect_s is not None
    assert good.agent_s is not None
    assert good.audio_s is not None
    assert good.connect_s <= good.agent_s <= good.audio_s
    assert bad.failure is not None
    assert (bad.id, bad.ok, bad.failure.kind) == (2, False, FailureKind.NO_CONNECT)
    assert asked == [2]
    assert cpu_s >= 0
