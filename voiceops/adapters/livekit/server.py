"""Looks at a livekit-server from outside: does it answer, does it accept our key, what time has it."""

from __future__ import annotations

import asyncio
import os
import time

import aiohttp

from voiceops.adapters.livekit.credentials import check_token, judge_answer
from voiceops.adapters.livekit.endpoint import clock_skew_s, http_base
from voiceops.model.secret import Secret
from voiceops.model.server import ServerFact


async def check_server(
    url: str, api_key: Secret, api_secret: Secret, *, timeout_s: float = 3.0
) -> ServerFact:
    """Ask ``/`` and ``/rtc/validate``; never raises for a server that is away or refuses."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(f"{http_base(url)}/") as answer:
                status, skew = answer.status, clock_skew_s(answer.headers.get("Date"), time.time())
            params = {"access_token": check_token(api_key, api_secret)}
            async with session.get(f"{http_base(url)}/rtc/validate", params=params) as answer:
                credentials, detail = judge_answer(answer.status, await answer.text())
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
        return ServerFact(url=url, reachable=False, error=_reason(error))
    return ServerFact(
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
