"""Looks at a livekit-server from outside: does it answer, does it accept our key, what time has it."""

from __future__ import annotations

import asyncio
import datetime
import time
from email.utils import parsedate_to_datetime

import aiohttp
from livekit import api

from voiceops.model.secret import Secret
from voiceops.model.server import ServerLook

LOOK_TTL = datetime.timedelta(minutes=1)


async def look_at_server(
    url: str, api_key: Secret, api_secret: Secret, *, timeout_s: float = 3.0
) -> ServerLook:
    """Ask ``/`` and ``/rtc/validate``; never raises for a server that is away or refuses.

    The check is a token for a room that nobody joins: no room comes of it. A plain 401 may
    repeat the token, so only the words behind its last ``error:`` are kept.
    """
    base = url.replace("ws://", "http://", 1).replace("wss://", "https://", 1).rstrip("/")
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(f"{base}/") as answer:
                status, skew = answer.status, _skew(answer.headers.get("Date"))
            token = (
                api.AccessToken(api_key.reveal(), api_secret.reveal())
                .with_identity("voiceops-check")
                .with_ttl(LOOK_TTL)
                .with_grants(api.VideoGrants(room_join=True, room="voiceops-check"))
                .to_jwt()
            )
            async with session.get(f"{base}/rtc/validate", params={"access_token": token}) as answer:
                credentials, detail = _verdict(answer.status, await answer.text())
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
        reason = (
            "no answer in time"
            if isinstance(error, asyncio.TimeoutError)
            else str(error) or type(error).__name__
        )
        return ServerLook(url=url, reachable=False, error=reason)
    return ServerLook(
        url=url,
        reachable=True,
        status=status,
        credentials=credentials,
        credentials_detail=detail,
        clock_skew_s=skew,
    )


def _verdict(status: int, body: str) -> tuple[str, str]:
    if status == 200:
        return "ok", ""
    if status == 401:
        return "refused", body.rsplit("error: ", 1)[-1] if "error: " in body else "invalid API key"
    return "unknown", f"/rtc/validate answered {status}"


def _skew(header: str | None) -> float:
    if not header:
        return 0.0
    try:
        skew = parsedate_to_datetime(header).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0
    return 0.0 if abs(skew) < 2 else skew
