"""Place a synthetic call, so that "up" means "answers"."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import Union

import msgspec

from voiceops.kinds.model import Declared
from voiceops.model.monitor_events import ProbeCall
from voiceops.model.protocol import PROBE_CALL_ENV
from voiceops.model.settings import ServiceBase
from voiceops.stack.model import Observed

WITHIN_S = 60.0
"""For the whole command: its start, the call itself, which has its own deadline, and the end of its room."""


class _Failure(msgspec.Struct, frozen=True):
    detail: str = ""


class _Call(msgspec.Struct, frozen=True):
    ok: bool = False
    connect_s: Union[float, None] = None
    agent_s: Union[float, None] = None
    audio_s: Union[float, None] = None
    failure: Union[_Failure, str, None] = None


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Document(msgspec.Struct, frozen=True):
    """What is read of the document of ``inv call``."""

    ok: bool = False
    calls: list[_Call] = []
    error: _Error = _Error()


async def place_probe(host: str, command: Sequence[str]) -> ProbeCall:
    """Run ``command``, which is ``inv call --json``, and return its result. Raises nothing for a call that failed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, PROBE_CALL_ENV: "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    except asyncio.TimeoutError:
        return ProbeCall(at=time.time(), host=host, ok=False, error=f"no result after {WITHIN_S:.0f} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _read(host, out)


def _read(host: str, out: bytes) -> ProbeCall:
    try:
        document = msgspec.json.decode(out, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ProbeCall(at=time.time(), host=host, ok=False, error="the call ended without a result")
    if not document.calls:
        return ProbeCall(
            at=time.time(), host=host, ok=False, error=document.error.message or "no call was placed"
        )
    call = document.calls[0]
    failure = call.failure.detail if isinstance(call.failure, _Failure) else call.failure or ""
    return ProbeCall(
        at=time.time(),
        host=host,
        ok=document.ok and call.ok,
        connect_s=call.connect_s,
        agent_s=call.agent_s,
        audio_s=call.audio_s,
        error="" if call.ok else failure or "the agent was not heard",
    )


def why_crowded(
    services: Sequence[Declared], settings: Mapping[str, ServiceBase], observed: Mapping[str, Observed]
) -> str:
    """Return why one more call might take a place that a caller needs; empty: it would not."""
    if os.getloadavg()[0] > 0.7 * (os.cpu_count() or 1):
        return "this machine is busy"
    for service in services:
        limit = settings[service.name].max_concurrent_jobs
        agents = observed.get(service.name, Observed()).current
        if limit is not None and any(one.calls is None or one.calls + 2 > limit for one in agents):
            return f"{service.name} is full"
    return ""
