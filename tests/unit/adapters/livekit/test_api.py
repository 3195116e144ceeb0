"""What comes back from LiveKit, translated: no foreign error gets out."""

from __future__ import annotations

import asyncio
import email.utils
import inspect
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from livekit.api import TwirpErrorCode

from tests.support.parts import free_port
from voiceops.adapters.livekit.api import RATE_LIMIT_DELAYS_S, LivekitApi, refusal, translate
from voiceops.errors import (
    ConfigError,
    CredentialsError,
    NotFoundError,
    NotListeningError,
    RateLimitedError,
    UnreachableError,
    UsageError,
    VoiceopsError,
)
from voiceops.model.secret import Secret

STATUS = {
    "canceled": 408,
    "unknown": 500,
    "invalid_argument": 400,
    "malformed": 400,
    "deadline_exceeded": 408,
    "not_found": 404,
    "bad_route": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "unauthenticated": 401,
    "resource_exhausted": 429,
    "failed_precondition": 412,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "dataloss": 500,
}
"""Twirp's own table of codes."""
KIND: dict[str, type[VoiceopsError]] = {
    "canceled": UnreachableError,
    "invalid_argument": UsageError,
    "malformed": UsageError,
    "out_of_range": UsageError,
    "deadline_exceeded": UnreachableError,
    "not_found": NotFoundError,
    "bad_route": UnreachableError,
    "permission_denied": CredentialsError,
    "unauthenticated": CredentialsError,
    "unavailable": UnreachableError,
    "resource_exhausted": RateLimitedError,
}
RETRYABLE = {
    "canceled",
    "unknown",
    "deadline_exceeded",
    "unimplemented",
    "internal",
    "unavailable",
    "dataloss",
    "resource_exhausted",
}


def codes() -> list[str]:
    return sorted(value for name, value in vars(TwirpErrorCode).items() if name.isupper())


@pytest.mark.parametrize("code", codes())
def test_every_code_of_twirp_has_its_error(code: str) -> None:
    error = refusal(STATUS[code], f'{{"code": "{code}", "msg": "m"}}'.encode(), "ListRooms", "ws://x")
    assert type(error) is KIND.get(code, VoiceopsError)
    assert error.retryable is (code in RETRYABLE)
    assert error.data["code"] == code


def transport_errors() -> list[type[BaseException]]:
    found: set[type[BaseException]] = {asyncio.TimeoutError, ConnectionResetError, BrokenPipeError, OSError}
    for _, one in inspect.getmembers(aiohttp, inspect.isclass):
        if issubclass(one, aiohttp.ClientError):
            found.add(one)
    return sorted(found, key=lambda one: one.__name__)


@pytest.mark.parametrize("kind", transport_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_transport_has_its_error(kind: type[BaseException]) -> None:
    error = kind.__new__(kind)  # their constructors differ; what they say does not decide
    error.__dict__["_os_error"] = OSError(111, "Connection refused")
    answer = translate(error, "ListRooms", "ws://x")
    assert isinstance(answer, (UnreachableError, ConfigError))


@pytest.mark.parametrize("status", [401, 403])
def test_the_body_of_a_refusal_is_never_shown(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for body in (b"invalid token: eyJSECRET", b'{"code": "unauthenticated", "msg": "eyJSECRET"}'):
        error = refusal(status, body, "ListRooms", "ws://x")
        assert isinstance(error, CredentialsError)
        assert "eyJSECRET" not in str(error) + repr(error.as_json()) + (error.hint or "") + caplog.text


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b"", b"\xff"])
def test_what_is_not_livekit_is_named_so(body: bytes) -> None:
    error = refusal(404, body, "ListRooms", "ws://x")
    assert type(error) is UnreachableError
    assert "not LiveKit" in error.message


@pytest.mark.parametrize("url", ["", "127.0.0.1:7880", "ftp://x", "ws://", "ws://x:port"])
def test_a_wrong_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        LivekitApi(url, Secret("k"), Secret("s"))


def test_missing_credentials_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        LivekitApi("ws://x", Secret("k"), Secret(""))


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """A server on a free port that answers everything by ``handler``."""
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_server_that_does_not_answer_in_time_is_retryably_unreachable() -> None:
    asked_enough = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        await asked_enough.wait()
        return web.Response()

    async with (
        answering(hang) as url,
        LivekitApi(url, Secret("k"), Secret("s"), timeout_s=0.05) as api,
    ):
        with pytest.raises(UnreachableError) as caught:
            await api.list_rooms()
        asked_enough.set()
    assert caught.value.retryable


async def test_an_answer_that_is_no_protobuf_is_not_livekit() -> None:
    async def page(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>welcome</html>")

    async with answering(page) as url, LivekitApi(url, Secret("k"), Secret("s")) as api:
        with pytest.raises(UnreachableError, match="not LiveKit"):
            await api.list_rooms()


async def test_no_more_calls_are_on_the_wire_than_allowed() -> None:
    now = highest = 0

    async def count(_request: web.Request) -> web.StreamResponse:
        nonlocal now, highest
        now += 1
        highest = max(highest, now)
        await asyncio.sleep(0.005)
        now -= 1
        return web.Response()

    async with answering(count) as url, LivekitApi(url, Secret("k"), Secret("s"), concurrency=4) as api:
        await asyncio.gather(*(api.list_rooms() for _ in range(40)))
    assert highest == 4


async def test_the_clock_of_the_server_is_learnt_from_its_answers() -> None:
    async def ahead(_request: web.Request) -> web.StreamResponse:
        return web.Response(headers={"Date": "Tue, 01 Jan 2999 00:00:00 GMT"})

    async with answering(ahead) as url, LivekitApi(url, Secret("k"), Secret("s")) as api:
        assert api.clock_skew_s == 0.0
        await api.list_rooms()
        assert api.clock_skew_s > 1e9


class Limiting:
    """Refuses the first ``refused`` requests with 429, and notes when each came."""

    def __init__(self, refused: int, **headers: str) -> None:
        self.refused = refused
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.came_at: list[float] = []

    async def handle(self, _request: web.Request) -> web.StreamResponse:
        self.came_at.append(asyncio.get_running_loop().time())
        if len(self.came_at) <= self.refused:
            return web.Response(status=429, text="slow down", headers=self.headers)
        return web.Response()

    @property
    def pauses_s(self) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.came_at)]


async def test_what_was_refused_for_its_rate_is_sent_again_after_growing_pauses() -> None:
    limiting = Limiting(3)
    async with answering(limiting.handle) as url, LivekitApi(url, Secret("k"), Secret("s")) as api:
        assert await api.list_rooms() == ()
    assert RATE_LIMIT_DELAYS_S == (0.2, 0.4, 0.8)
    assert len(limiting.came_at) == 4
    assert all(pause >= delay for pause, delay in zip(limiting.pauses_s, RATE_LIMIT_DELAYS_S, strict=True))


async def test_the_answer_says_when_to_come_again() -> None:
    limiting = Limiting(1, Retry_After="1")
    async with answering(limiting.handle) as url, LivekitApi(url, Secret("k"), Secret("s")) as api:
        assert await api.list_rooms() == ()
    assert limiting.pauses_s[0] >= 1.0


@pytest.mark.parametrize(("retry_after", "asked"), [("3600", 1), ("", 4)])
async def test_a_rate_limit_that_lasts_is_an_error_that_names_it(retry_after: str, asked: int) -> None:
    limiting = Limiting(100, Retry_After=retry_after)
    async with answering(limiting.handle) as url, LivekitApi(url, Secret("k"), Secret("s")) as api:
        with pytest.raises(RateLimitedError, match="takes no more requests") as caught:
            await api.list_rooms()
    assert len(limiting.came_at) == asked
    assert caught.value.retryable
    assert "LiveKit's API" not in caught.value.message


def test_a_date_in_retry_after_counts_from_now() -> None:
    later = email.utils.formatdate(time.time() + 60, usegmt=True)
    error = refusal(429, b"", "ListRooms", "ws://x", retry_after=later)
    assert isinstance(error, RateLimitedError)
    assert 55 < (error.retry_after_s or 0) <= 60


async def test_a_port_that_nobody_listens_on_is_told_from_a_server_that_does_not_answer() -> None:
    """Only then nobody can be in a call."""
    async with LivekitApi(f"ws://127.0.0.1:{free_port()}", Secret("k"), Secret("s" * 32)) as api:
        with pytest.raises(NotListeningError):
            await api.list_rooms()
