"""Looks at a livekit-server from outside: does it answer, does it accept our key, what time has it."""

from __future__ import annotations

import asyncio
import os
import time

import aiohttp

from voiceops.adapters.livekit.endpoint import clock_skew_s, http_base
from voiceops.adapters.livekit.token import sign_token
from voiceops.model.secret import Secret
from voiceops.model.server import ServerLook

_CHECK_TTL_S = 60.0


async def look_at_server(
    url: str, api_key: Secret, api_secret: Secret, *, timeout_s: float = 3.0
) -> ServerLook:
    """Ask ``/`` and ``/rtc/validate``; never raises for a server that is away or refuses.

    The check is a token for a room that nobody joins: no room comes of it. A plain 401 may
    repeat the token, so only the words behind its last ``error:`` are kept.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(f"{http_base(url)}/") as answer:
                status, skew = answer.status, clock_skew_s(answer.headers.get("Date"), time.time())
            grants = {"roomJoin": True, "room": "voiceops-check"}
            token = sign_token(api_key, api_secret, grants, ttl_s=_CHECK_TTL_S, sub="voiceops-check")
            async with session.get(
                f"{http_base(url)}/rtc/validate", params={"access_token": token}
            ) as answer:
                credentials, detail = _verdict(answer.status, await answer.text())
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
        return ServerLook(url=url, reachable=False, error=_reason(error))
    return ServerLook(
        url=url,
        reachable=True,
        status=status,
        credentials=credentials,
        credentials_detail=detail,
        clock_skew_s=skew,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno).lower()
    return str(error) or type(error).__name__


def _verdict(status: int, body: str) -> tuple[str, str]:
    if status == 200:
        return "ok", ""
    if status == 401:
        return "refused", body.rsplit("error: ", 1)[-1] if "error: " in body else "invalid API key"
    return "unknown", f"/rtc/validate answered {status}"
