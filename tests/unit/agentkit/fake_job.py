"""A job context whose room does what the test says, and one job with it from beginning to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

from livekit import rtc
from livekit.agents import JobContext
from livekit.protocol.models import ParticipantInfo

from voiceops.agentkit import CallEvent, lifecycle

STANDARD = int(rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD)
AGENT = int(rtc.ParticipantKind.PARTICIPANT_KIND_AGENT)
INGRESS = int(rtc.ParticipantKind.PARTICIPANT_KIND_INGRESS)
EGRESS = int(rtc.ParticipantKind.PARTICIPANT_KIND_EGRESS)


class FakeContext:
    """A job context whose room does what the test says."""

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[None]] | None = None,
        room: str = "r",
        identity: str = "agent-AJ_1",
        empty_timeout: int = 300,
    ) -> None:
        self.job = SimpleNamespace(id="AJ_1", room=SimpleNamespace(name=room, empty_timeout=empty_timeout))
        self._info = SimpleNamespace(received_at=0.0)
        self.reason: str | None = None
        self.shut_down = asyncio.Event()
        self.handlers: dict[str, Callable[..., None]] = {}
        self.on_shutdown: list[Callable[[str], Awaitable[None]]] = []
        self.deleted = 0
        self.room = SimpleNamespace(
            name=room,
            remote_participants={},
            on=self.handlers.__setitem__,
            local_participant=SimpleNamespace(
                identity=identity, set_attributes=nothing, publish_data=nothing
            ),
        )
        self.listed: list[ParticipantInfo] = []
        """Whom the server lists, hidden ones too."""
        self.api = SimpleNamespace(room=SimpleNamespace(list_participants=self._list_participants))
        self._connect = connect or nothing

    async def _list_participants(self, request: Any) -> Any:
        assert request.room == self.room.name
        return SimpleNamespace(participants=self.listed)

    def comes(self, identity: str, kind: int = STANDARD, **attributes: str) -> None:
        """A participant joins."""
        participant = SimpleNamespace(
            identity=identity, sid=f"PA_{identity}", kind=kind, attributes=attributes
        )
        self.room.remote_participants[identity] = participant
        self.listed.append(ParticipantInfo(identity=identity, kind=cast(Any, kind), attributes=attributes))
        if "participant_connected" in self.handlers:
            self.handlers["participant_connected"](participant)

    def leaves(self, identity: str) -> None:
        """A participant leaves."""
        participant = self.room.remote_participants.pop(identity)
        self.listed = [one for one in self.listed if one.identity != identity]
        self.handlers["participant_disconnected"](participant)

    def says(self, topic: str, sender: str | None) -> None:
        """A data message arrives; ``sender`` None: from nobody who is in the room."""
        participant = None if sender is None else self.room.remote_participants[sender]
        self.handlers["data_received"](SimpleNamespace(topic=topic, participant=participant))

    async def connect(self) -> None:
        await self._connect()

    def shutdown(self, reason: str) -> None:
        self.reason = reason
        self.shut_down.set()

    def add_shutdown_callback(self, callback: Callable[[str], Awaitable[None]]) -> None:
        self.on_shutdown.append(callback)

    def delete_room(self) -> asyncio.Future[None]:
        self.deleted += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


async def nothing(*_: object, **__: object) -> None:
    return None


async def forever() -> None:
    await asyncio.Event().wait()


async def serve(entrypoint: Any, context: FakeContext) -> None:
    """One job from the entrypoint to its last shutdown callback."""
    try:
        await entrypoint(cast(JobContext, context))
    finally:
        for callback in context.on_shutdown:
            await callback(context.reason or "")


def failures(events: list[CallEvent]) -> list[tuple[str, str]]:
    return [
        (str(event.details["phase"]), str(event.details["error"]))
        for event in events
        if event.step == lifecycle.FAILED
    ]
