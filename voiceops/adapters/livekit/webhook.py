"""Receive LiveKit's webhooks on loopback: only what its key has signed, once, and of now.

The Authorization header is a JWT whose claim ``sha256`` is the hash of the body (livekit-server, pkg/telemetry/webhook).
Checked with the standard library, as ``token.py`` signs: PyJWT and cryptography would double the monitor's memory.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Union

import msgspec
from aiohttp import web

from voiceops.adapters.livekit.token import verified_claims
from voiceops.errors import CredentialsError
from voiceops.model.monitor_events import WebhookEvent
from voiceops.model.protocol import WEBHOOK_PATH
from voiceops.model.secret import Secret

MOST_BYTES = 256_000
_REMEMBERED = 20_000
_LATE_S = 5.0
"""Within so long the time of arrival counts: LiveKit's ``created_at`` has whole seconds. Beyond, it was sent again."""


class _Room(msgspec.Struct, frozen=True):
    name: str = ""
    sid: str = ""


class _Participant(msgspec.Struct, frozen=True):
    sid: str = ""
    identity: str = ""
    kind: Union[str, int] = ""
    disconnectReason: Union[str, int] = ""


class _Body(msgspec.Struct, frozen=True):
    """What is read of a webhook; all else is skipped."""

    event: str
    id: str = ""
    createdAt: Union[str, int] = 0
    room: _Room = _Room()
    participant: _Participant = _Participant()


_decoder = msgspec.json.Decoder(_Body)


def verify(authorization: str, body: bytes, pairs: Sequence[tuple[Secret, Secret]], now: float) -> None:
    """``CredentialsError`` unless one of the keys has signed exactly this body, for a time that includes ``now``."""
    claims = _signed_claims(authorization.removeprefix("Bearer ").strip(), pairs, now)
    digest = str(claims.get("sha256", ""))
    if not hmac.compare_digest(base64.b64encode(hashlib.sha256(body).digest()), digest.encode()):
        raise CredentialsError("the body of a webhook is not the one that was signed")


def _signed_claims(token: str, pairs: Sequence[tuple[Secret, Secret]], now: float) -> Mapping[str, object]:
    """The claims of a token that one of the pairs has signed; the refusal of the last pair for any other."""
    *others, (key, secret) = pairs
    for other_key, other_secret in others:
        with contextlib.suppress(CredentialsError):
            return verified_claims(token, other_key, other_secret, now)
    return verified_claims(token, key, secret, now)


class WebhookReceiver:
    """Passes each webhook on once; whatever is wrong with one is answered 401 or 400 and changes nothing."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        pairs: Sequence[tuple[Secret, Secret]],
        on_event: Callable[[WebhookEvent], None],
    ) -> None:
        """``pairs``: each key with its secret whose signature counts."""
        self._host = host
        self._port = port
        self._pairs = pairs
        self._on_event = on_event
        self._delivered: OrderedDict[str, None] = OrderedDict()
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Listen on loopback; ``OSError`` where the port is taken."""
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post(WEBHOOK_PATH, self._receive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def close(self) -> None:
        """Stop listening; safe to call again."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
            verify(request.headers.get("Authorization", ""), body, self._pairs, time.time())
            event = _decoder.decode(body)
        except CredentialsError:
            return web.Response(status=401)
        except (msgspec.DecodeError, UnicodeDecodeError, web.HTTPException):
            return web.Response(status=400)
        if event.id and event.id in self._delivered:
            return web.Response(status=200)  # LiveKit repeats what was not answered in time
        self._delivered[event.id] = None
        if len(self._delivered) > _REMEMBERED:
            self._delivered.popitem(last=False)
        self._on_event(self._typed(event))
        return web.Response(status=200)

    def _typed(self, event: _Body) -> WebhookEvent:
        now = time.time()
        created = float(event.createdAt) if str(event.createdAt).isdecimal() else now
        return WebhookEvent(
            at=now if abs(now - created) < _LATE_S else created,
            host=self._host,
            delivery=event.id,
            kind=event.event,
            room=event.room.name,
            room_sid=event.room.sid,
            participant_sid=event.participant.sid,
            identity=event.participant.identity,
            is_agent=event.participant.kind in ("AGENT", 4),
            reason=str(event.participant.disconnectReason),
        )
