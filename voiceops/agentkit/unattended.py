"""``leave_unattended_rooms``: a drain waits for callers, not for agents whom nobody joins.

LiveKit keeps an agent in a room that no person ever joined for 300 s, and whoever waits for the worker's
last job waits for it too. A job that hangs before it joins its room outlasts even that: livekit-agents ends a
job when its room disconnects, and this one never connected.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import ClientError
from livekit.api import DeleteRoomRequest, ListRoomsRequest, LiveKitAPI, RoomParticipantIdentity, TwirpError

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
    """End the worker's jobs whose rooms have held only agents, or been gone, for ``patience_s``; runs until cancelled.

    Rooms that were made to wait longer than the server's default are left alone: a caller who comes
    later would find no agent there.
    """
    client = api or LiveKitAPI()
    unattended = _Unattended(worker, client, patience_s=patience_s, clock=clock)
    try:
        while True:
            await unattended.check()
            await asyncio.sleep(interval_s)
    finally:
        if api is None:
            await client.aclose()


class _Unattended:
    """Since when each job has been seen without anybody to serve."""

    def __init__(
        self, worker: Worker, client: LiveKitAPI, *, patience_s: float, clock: Callable[[], float]
    ) -> None:
        self._worker = worker
        self._client = client
        self._patience_s = patience_s
        self._clock = clock
        self._since: dict[tuple[str, bool], float] = {}
        """By job and whether its agent is in the room."""
        self._asked: set[str] = set()
        """Jobs that were told to end."""

    async def check(self) -> None:
        jobs = self._worker.jobs
        running = {job.job.id for job in jobs}
        self._since = {key: since for key, since in self._since.items() if key[0] in running}
        await asyncio.gather(*(self._check_job(job) for job in jobs))

    async def _check_job(self, job: RunningJobInfo) -> None:
        identity = job.accept_arguments.identity
        room = job.job.room
        present = await attendance.list_participants(self._client, room.name)
        joined = present is not None and any(one.identity == identity for one in present)
        if joined and present is not None:
            over = room.empty_timeout <= attendance.DEFAULT_EMPTY_TIMEOUT_S and not attendance.attended(
                present
            )
        else:
            # Nobody in it proves nothing: a server of several nodes may leave participants out.
            over = present == [] and await self._is_gone(room.name)
        self._since.pop((job.job.id, not joined), None)
        if not over:
            self._since.pop((job.job.id, joined), None)
            return
        since = self._since.setdefault((job.job.id, joined), self._clock())
        if self._clock() - since < self._patience_s:
            return
        if joined and present is not None:
            await self._leave(job, identity, present)
        elif job.job.id not in self._asked:
            self._asked.add(job.job.id)
            await self._worker.end_job(job)
            log.info(
                "told a job to end whose room is gone",
                extra={"call_id": job.job.id, "pii": {"room": room.name}},
            )

    async def _is_gone(self, room: str) -> bool:
        """Whether the server says that it has no such room."""
        answer = await attendance.ask_about(
            room, self._client.room.list_rooms(ListRoomsRequest(names=[room]))
        )
        return answer is not None and not answer.rooms

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
