from __future__ import annotations

import pytest

from tests.support.fakes.phone import FakePhone
from voiceops.calls.call import converse
from voiceops.errors import CredentialsError, UnreachableError
from voiceops.model.calls import (
    AgentJoined,
    AgentLeft,
    AgentReady,
    CallJob,
    CallResult,
    Disconnected,
    FailureKind,
    Hangup,
    LineMeasured,
    PauseEnded,
    PhoneEvent,
    TrackSeen,
    VoiceStarted,
    VoiceStopped,
)

JOINED = AgentJoined(at=0.3, identity="agent-1")
READY = AgentReady(at=0.35, identity="agent-1")
TRACK = TrackSeen(at=0.38)
HEARD = VoiceStarted(at=0.4, rms=5000, peak=8000)
QUIET = VoiceStopped(at=1.0)
LEFT = AgentLeft(at=2.0, identity="agent-1")


async def call(phone: FakePhone, **job: object) -> CallResult:
    settings: dict[str, object] = {"timeout_s": 0.05} | job
    one = CallJob(id=7, url="ws://x", token="t", room="r", identity="me", **settings)  # type: ignore[arg-type]
    return await converse(phone, one, clock=lambda: 0.0)


async def test_a_good_call_has_every_step_with_its_time() -> None:
    phone = FakePhone([JOINED, READY, TRACK, HEARD])
    result = await call(phone)
    assert result.ok
    assert (result.agent_s, result.ready_s, result.audio_s) == (0.3, 0.35, 0.4)
    assert (result.id, result.agent, result.rms, result.peak) == (7, "agent-1", 5000, 8000)
    assert phone.microphone
    assert phone.hung_up


@pytest.mark.parametrize(
    ("phone", "kind", "words"),
    [
        (FakePhone(refuses=CredentialsError("refused")), FailureKind.CREDENTIALS, "refused"),
        (FakePhone(refuses=UnreachableError("nobody there")), FailureKind.NO_CONNECT, "nobody there"),
        (FakePhone(hangs=True), FailureKind.NO_CONNECT, "no connection"),
        (FakePhone(), FailureKind.NO_AGENT, "no agent joined"),
        (FakePhone([JOINED]), FailureKind.SILENT, "published no audio"),
        (FakePhone([JOINED, TRACK]), FailureKind.SILENT, "its audio is silence"),
        (FakePhone([JOINED, LEFT]), FailureKind.DROPPED, "left after 2.00 s"),
        (
            FakePhone([JOINED, Disconnected(at=1.0, reason="ROOM_DELETED")]),
            FailureKind.DROPPED,
            "ROOM_DELETED",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, FailureKind) else None,
)
async def test_each_way_to_fail_has_a_name_and_what_was_seen(
    phone: FakePhone, kind: FailureKind, words: str
) -> None:
    result = await call(phone)
    assert result.failure is not None
    assert result.failure.kind is kind
    assert words in result.failure.detail
    assert phone.hung_up


async def test_an_agent_that_comes_back_is_not_counted_as_gone() -> None:
    again = AgentJoined(at=2.5, identity="agent-2")
    result = await call(FakePhone([JOINED, LEFT, again, HEARD]))
    assert result.ok
    assert result.agent == "agent-1"


async def test_an_agent_that_leaves_while_the_caller_holds_drops_the_call() -> None:
    result = await call(FakePhone([JOINED, HEARD, LEFT]), hold_s=5.0)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.DROPPED


def reading(at: float, concealed_s: float) -> LineMeasured:
    return LineMeasured(
        at=at,
        track="one",
        received=round(at * 50),
        lost=0,
        jitter_s=0.005,
        round_trip_s=0.03,
        heard_s=at,
        concealed_s=concealed_s,
        concealments=bool(concealed_s),
        buffered_s=at * 0.05,
    )


async def test_a_held_call_has_its_gaps_and_the_agents_that_came_and_left() -> None:
    other = AgentJoined(at=2.0, identity="agent-2")
    left = AgentLeft(at=2.5, identity="agent-1")
    line = [reading(1.0, 0.0), PauseEnded(at=1.4, pause_s=0.3), other, left, reading(6.0, 1.0)]
    result = await call(FakePhone([JOINED, HEARD, *line]), hold_s=0.05)
    assert result.ok
    assert (result.max_gap_s, result.max_gap_at_s) == (1.0, 5.0)
    assert (result.max_pause_s, result.max_pause_at_s) == (0.3, 1.1)
    assert (result.loss, result.jitter_s, result.round_trip_s) == (0.0, 0.005, 0.03)
    changes = [(one.at_s, one.change, one.agent) for one in result.agent_changes]
    assert changes == [(2.0, "joined", "agent-2"), (2.5, "left", "agent-1")]


@pytest.mark.parametrize(("concealed_s", "kind"), [(0.0, None), (1.0, FailureKind.POOR_QUALITY)])
async def test_a_call_below_the_quality_that_is_asked_for_fails(
    concealed_s: float, kind: FailureKind | None
) -> None:
    phone = FakePhone([JOINED, HEARD, reading(1.0, 0.0), reading(6.0, concealed_s)])
    result = await call(phone, hold_s=0.05, min_quality=3.6)
    assert (result.failure and result.failure.kind) is kind
    if result.failure is not None:
        assert "of at least 3.6 around 3.5 s; largest gap 1000 ms" in result.failure.detail


async def test_an_abrupt_caller_does_not_hang_up_by_itself() -> None:
    phone = FakePhone([JOINED, HEARD])
    assert (await call(phone, hangup=Hangup.ABRUPT)).ok
    assert not phone.hung_up


@pytest.mark.parametrize(
    ("answers", "answer_s"),
    [
        ([VoiceStarted(at=5.8, rms=1, peak=1)], 0.8),
        ([VoiceStarted(at=3.0, rms=1, peak=1), VoiceStopped(at=5.5)], 0.0),
        (
            [VoiceStarted(at=3.0, rms=1, peak=1), VoiceStopped(at=4.0), VoiceStarted(at=6.0, rms=1, peak=1)],
            1.0,
        ),
    ],
    ids=["after", "over the last word", "interrupted, then answered"],
)
async def test_the_answer_is_timed_from_the_end_of_the_words(
    answers: list[PhoneEvent], answer_s: float
) -> None:
    phone = FakePhone([JOINED, HEARD, QUIET], answers=answers, said_until=5.0)
    result = await call(phone, script="words.wav")
    assert phone.said == ["words.wav"]
    assert result.answer_s == pytest.approx(answer_s)


async def test_an_agent_that_greets_but_does_not_answer_fails_by_that_name() -> None:
    result = await call(FakePhone([JOINED, HEARD, QUIET], said_until=5.0), script="words.wav")
    assert result.failure is not None
    assert result.failure.kind is FailureKind.NO_ANSWER
    assert result.audio_s == 0.4


async def test_a_failed_caller_is_asked_about_before_it_hangs_up() -> None:
    phone = FakePhone()
    on_the_line: list[bool] = []

    async def inquire(_: CallResult) -> None:
        on_the_line.append(not phone.hung_up)

    job = CallJob(id=1, url="ws://x", token="t", room="r", identity="me", timeout_s=0.01)
    await converse(phone, job, inquire=inquire)
    assert on_the_line == [True]
    assert phone.hung_up


def test_a_job_does_not_show_its_token() -> None:
    job = CallJob(id=1, url="ws://x", token="very-secret", room="r", identity="me", timeout_s=1.0)
    assert "very-secret" not in f"{job!r} {job}"
