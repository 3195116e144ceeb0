"""Webhooks: only what our key has signed, once, and of now."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import jwt
import pytest

from tests.support import parts
from voiceops.adapters.livekit.webhook import MOST_BYTES, WebhookReceiver
from voiceops.model.monitor_events import WebhookEvent
from voiceops.model.protocol import WEBHOOK_PATH
from voiceops.model.secret import Secret

KEY, SECRET = "key", "a-secret-of-more-than-thirty-two-characters"
PAIRS = [(Secret("next"), Secret("another-secret-of-more-than-32-characters")), (Secret(KEY), Secret(SECRET))]
"""While keys are rotated LiveKit may sign with either."""


def body(identifier: str = "EV_1", **changes: object) -> bytes:
    document = {
        "event": "participant_left",
        "id": identifier,
        "createdAt": "1700000000",
        "room": {"sid": "RM_1", "name": "front"},
        "participant": {
            "sid": "PA_1",
            "identity": "agent",
            "kind": "AGENT",
            "disconnectReason": "ROOM_CLOSED",
        },
    }
    return json.dumps(document | changes).encode()


def token(data: bytes, *, secret: str = SECRET, **changes: object) -> str:
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    claims = {"iss": KEY, "exp": time.time() + 300, "nbf": time.time() - 5, "sha256": digest}
    return jwt.encode(claims | changes, secret, algorithm="HS256")


@asynccontextmanager
async def receiver(events: list[WebhookEvent]) -> AsyncIterator[str]:
    port = parts.free_port()
    made = WebhookReceiver(host="here", port=port, pairs=PAIRS, on_event=events.append)
    await made.open()
    try:
        yield f"http://127.0.0.1:{port}{WEBHOOK_PATH}"
    finally:
        await made.close()


async def post(url: str, data: bytes, authorization: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=data, headers={"Authorization": authorization}) as answer,
    ):
        return answer.status


async def test_a_signed_webhook_is_handed_on_once() -> None:
    events: list[WebhookEvent] = []
    async with receiver(events) as url:
        data = body()
        assert [await post(url, data, token(data)) for _ in range(3)] == [200, 200, 200]
    (event,) = events
    assert (event.kind, event.room, event.room_sid, event.is_agent) == (
        "participant_left",
        "front",
        "RM_1",
        True,
    )
    assert (event.at, event.reason, event.delivery) == (1_700_000_000.0, "ROOM_CLOSED", "EV_1")


@pytest.mark.parametrize(
    ("authorization", "what"),
    [
        ("", "no token"),
        ("a.b.c", "no token"),
        (token(body(), secret="x" * 40), "another secret"),
        (token(body(), iss="other"), "another key"),
        (token(body(), exp=time.time() - 3600), "an old one"),
        (token(body(), nbf=time.time() + 3600), "of the future"),
        (token(b"{}"), "another body"),
        (jwt.encode({"iss": KEY}, "", algorithm="none"), "unsigned"),
    ],
)
async def test_a_forged_webhook_is_refused(authorization: str, what: str) -> None:
    events: list[WebhookEvent] = []
    async with receiver(events) as url:
        assert await post(url, body(), authorization) == 401, what
    assert events == []


@pytest.mark.parametrize("data", [b"", b"[]", b'{"event": 1}', b"\xff", b'{"id": "x"}'])
async def test_a_body_that_makes_no_sense_is_refused(data: bytes) -> None:
    events: list[WebhookEvent] = []
    async with receiver(events) as url:
        assert await post(url, data, token(data)) == 400
        assert await post(url, b"x" * (MOST_BYTES + 1), "") in (400, 413)
    assert events == []


async def test_a_thousand_at_once_arrive() -> None:
    events: list[WebhookEvent] = []
    async with receiver(events) as url, aiohttp.ClientSession() as session:

        async def send(number: int) -> int:
            data = body(f"EV_{number}")
            async with session.post(url, data=data, headers={"Authorization": token(data)}) as answer:
                return answer.status

        assert set(await asyncio.gather(*(send(number) for number in range(1000)))) == {200}
    assert len({event.delivery for event in events}) == 1000
