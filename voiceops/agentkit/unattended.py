"""``leave_unattended_rooms``: a drain waits for callers, not for agents whom nobody joins.

LiveKit keeps an agent in a room that no person ever joined for 300 s, and whoever waits for the worker's
last job waits for it too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import ClientError
from livekit.api import DeleteRoomRequest, LiveKitAPI, RoomParticipantIdentity, TwirpError

from voiceops.agentkit import attendance

if TYPE_CHECKING:
    from livekit.agents.job import RunningJobInfo
    from livekit.protocol.models import ParticipantInfo

    from voiceops.agentkit.worker import Worker

log = logging.getLogger("voiceops.agentkit")

PATIENCE_S = 20.0
"""A caller who reloads comes back within it, and joins took up to 17 s under load."""
INTERVAL_S = 2.0


async def leave_unattended_rooms(
    worker: Worker,
    *,
    patience_s: float = PATIENCE_S,
    interval_s: float = INTERVAL_S,
    clock: Callable[[], float] = time.monotonic,
    api: LiveKitAPI | None = None,
) -> None:
    """End the worker's jobs whose rooms have held only agents for ``patience_s``; runs until cancelled.

    Rooms that were made to wait longer than the server's default are left alone: a caller who comes
    later would find no agent there.
    """
    client = api or LiveKitAPI()
    unattended = _Unattended(client, patience_s=patience_s, clock=clock)
    try:
        while True:
            await unattended.check(worker.jobs)
            await asyncio.sleep(interval_s)
    finally:
        if api is None:
            await client.aclose()


class _Unattended:
    """Since when each job's room has been seen with agents only."""

    def __init__(self, client: LiveKitAPI, *, patience_s: float, clock: Callable[[], float]) -> None:
        self._client = client
        self._patience_s = patience_s
        self._clock = clock
        self._since: dict[str, float] = {}

    async def check(self, jobs: list[RunningJobInfo]) -> None:
        running = {job.job.id for job in jobs}
        self._since = {key: since for key, since in self._since.items() if key in running}
        made_to_wait = attendance.DEFAULT_EMPTY_TIMEOUT_S
        ours = [job for job in jobs if job.job.room.empty_timeout <= made_to_wait]
        await asyncio.gather(*(self._check_job(job) for job in ours))

    async def _check_job(self, job: RunningJobInfo) -> None:
        identity = job.accept_arguments.identity
        present = await attendance.list_participants(self._client, job.job.room.name)
        alone = (
            present is not None
            and any(one.identity == identity for one in present)
            and not attendance.attended(present)
        )
        if present is None or not alone:
            self._since.pop(job.job.id, None)
            return
        since = self._since.setdefault(job.job.id, self._clock())
        if self._clock() - since >= self._patience_s:
            await self._leave(job, identity, present)

    async def _leave(self, job: RunningJobInfo, identity: str, present: list[ParticipantInfo]) -> None:
        """Delete the room, or only leave it where another agent is the one that deletes it."""
        room = job.job.room.name
        about = {"call_id": job.job.id, "pii": {"room": room}}
        try:
            # Attended rooms don't get here: everybody in it is an agent, and only the first deletes.
            if identity == min(one.identity for one in present):
                await self._client.room.delete_room(DeleteRoomRequest(room=room))
            else:
                await self._client.room.remove_participant(
                    RoomParticipantIdentity(room=room, identity=identity)
                )
        except (TwirpError, ClientError, asyncio.TimeoutError, OSError) as error:
            log.warning("an unattended room could not be left", extra=about | {"error": repr(error)})
            return
        log.info("left an unattended room", extra=about)
