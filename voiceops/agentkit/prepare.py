"""``prepare_room``: removes dead agents from a room before another one joins.

An agent whose process was killed stays in the room for about 20 s, looks alive and says
nothing; the next one would be the second agent of the call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from livekit.agents import JobRequest
    from livekit.api import LiveKitAPI

log = logging.getLogger("voiceops.agentkit")

WORKER_ATTRIBUTE = "voiceops.worker"
"""``HOST/PID/START`` of the worker's main process: how another worker knows that an agent is dead."""
AGENT_NAME_ATTRIBUTE = "lk.agent.name"
BUDGET_S = 0.5
"""The server gives a worker 3 s to answer an offer (livekit PR 4541)."""
FRESH_ROOM_S = 2.0


def process_mark() -> str:
    """What ``WORKER_ATTRIBUTE`` says for this process."""
    import psutil

    return f"{_host()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def is_dead(mark: str, *, identity: str, live: Collection[str] | None = None) -> bool:
    """Whether the worker behind ``mark`` has certainly lost the agent ``identity``.

    Certain is: it is this process and ``live``, the identities of its agents, lacks this
    one; or the process is gone from this host.
    Agents of other hosts, and of other workers that live, are left alone: an agent that
    is removed by mistake is a call that is dropped.
    """
    if mark == process_mark():
        return live is not None and identity not in live
    host, _, rest = mark.partition("/")
    pid, _, started = rest.partition("/")
    if host != _host() or not pid.isdigit():
        return False
    import psutil

    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


async def prepare_room(
    request: JobRequest,
    *,
    live: Callable[[], Collection[str]] | None = None,
    budget_s: float = BUDGET_S,
    api: LiveKitAPI | None = None,
) -> list[str]:
    """Remove the dead agents of the same name from the room of ``request``.

    Never a caller, never an agent that may be alive (see ``is_dead``), never longer than
    ``budget_s``, and it never raises: the job is to be accepted whatever happens here.
    Returns the identities that it removed. ``live`` tells the identities of this worker's
    agents, where they are known. Use it in a request handler, before or beside
    ``await request.accept()``; ``python -m voiceops.agentkit`` does it for every agent.
    """
    if _is_fresh(request):
        return []
    work = asyncio.create_task(_remove_dead(request, live, api))
    done, _ = await asyncio.wait({work}, timeout=budget_s)
    if not done:
        work.cancel()
        log.warning("the room could not be looked at in time", extra=_about(request, budget_s=budget_s))
        return []
    error = work.exception()
    if error is not None:
        log.warning("the room could not be looked at", extra=_about(request, error=repr(error)))
        return []
    return work.result()


def _is_fresh(request: JobRequest) -> bool:
    """A room that was made for this very call has nobody to remove: save the round trip."""
    created_ms = int(request.room.creation_time_ms)
    return created_ms > 0 and abs(time.time() - created_ms / 1000) < FRESH_ROOM_S


async def _remove_dead(
    request: JobRequest, live: Callable[[], Collection[str]] | None, api: LiveKitAPI | None
) -> list[str]:
    from livekit.api import LiveKitAPI

    client = api or LiveKitAPI()
    try:
        return await _sweep(client, request, live)
    finally:
        if api is None:
            await client.aclose()


async def _sweep(
    client: LiveKitAPI, request: JobRequest, live: Callable[[], Collection[str]] | None
) -> list[str]:
    from livekit.api import ListParticipantsRequest, RoomParticipantIdentity
    from livekit.protocol.models import ParticipantInfo

    removed: list[str] = []
    present = await client.room.list_participants(ListParticipantsRequest(room=request.room.name))
    # Asked after the listing: an agent that is in the list was started before.
    alive = live() if live is not None else None
    for participant in present.participants:
        attributes: dict[str, str] = dict(participant.attributes)
        mark = attributes.get(WORKER_ATTRIBUTE, "")
        if participant.kind != ParticipantInfo.Kind.AGENT or not mark:
            continue
        if attributes.get(AGENT_NAME_ATTRIBUTE, "") != request.agent_name:
            continue
        if is_dead(mark, identity=participant.identity, live=alive):
            await client.room.remove_participant(
                RoomParticipantIdentity(room=request.room.name, identity=participant.identity)
            )
            removed.append(participant.identity)
    if removed:
        log.info("removed dead agents from a room", extra=_about(request, removed=len(removed)))
    return removed


def _about(request: JobRequest, **fields: object) -> dict[str, object]:
    return {"call_id": request.id, **fields, "pii": {"room": request.room.name}}


def _host() -> str:
    return socket.gethostname()
