"""Say of agents that stay after their session has ended that they serve nobody: a caller who comes back gets another one.

livekit-agents closes an AgentSession when the caller that it is linked to leaves (``voice/room_io/room_io.py``), and its
agent stays in the room and says ``listening`` as before. Only a line in the log tells. Agents under the guard leave instead.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import ClientError
from livekit.api import LiveKitAPI, TwirpError, UpdateParticipantRequest

from voiceops.model.protocol import READY_ATTRIBUTE

if TYPE_CHECKING:
    from livekit.agents.job import RunningJobInfo

    from voiceops.agentkit.worker import Worker

log = logging.getLogger("voiceops.agentkit")

LINE = "closing agent session due to participant disconnect"
_WITHIN_S = 5.0


class EndedSessions(logging.Handler):
    """Watches the lines of the worker's jobs, which come through its main process, and marks agents in LiveKit."""

    def __init__(self, worker: Worker, *, api: LiveKitAPI | None = None) -> None:
        super().__init__(logging.INFO)
        self._worker = worker
        self._api = api
        self._loop = asyncio.get_running_loop()
        self._marking: set[asyncio.Task[None]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Called in the thread that reads a job's lines."""
        if record.name == "livekit.agents" and record.getMessage().startswith(LINE):
            self._loop.call_soon_threadsafe(self._begin, str(getattr(record, "room", "")))

    def _begin(self, room: str) -> None:
        for job in self._worker.jobs:
            if job.job.room.name == room:
                task = asyncio.ensure_future(self._mark(job))
                self._marking.add(task)
                task.add_done_callback(self._marking.discard)

    async def _mark(self, job: RunningJobInfo) -> None:
        request = UpdateParticipantRequest(
            room=job.job.room.name, identity=job.accept_arguments.identity, attributes={READY_ATTRIBUTE: "0"}
        )
        client = self._api or LiveKitAPI()
        about = {"call_id": job.job.id, "pii": {"room": job.job.room.name}}
        try:
            await asyncio.wait_for(client.room.update_participant(request), _WITHIN_S)
        except (TwirpError, ClientError, asyncio.TimeoutError, OSError) as error:
            log.warning("an ended session could not be told", extra=about | {"error": repr(error)})
        else:
            log.info("session ended while its agent stays", extra=about)
        finally:
            if self._api is None:
                await client.aclose()

    async def stop(self) -> None:
        """End what is under way."""
        for task in self._marking:
            task.cancel()
        await asyncio.gather(*self._marking, return_exceptions=True)
