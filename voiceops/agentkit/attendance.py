"""Who is in a room besides agents, and which of several agents deletes it. Asks the server.

The server is asked because a participant's own view lacks hidden ones, and because two DeleteRoom
within 100 ms make livekit-server create the room anew with an agent in it (``RoomService.DeleteRoom``
makes sure that the room exists before it asks its node to end it): each room has one owner who deletes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from voiceops.model.protocol import CALL_ROOM_PREFIX, READY_ATTRIBUTE

if TYPE_CHECKING:
    from livekit.api import LiveKitAPI
    from livekit.protocol.models import ParticipantInfo

log = logging.getLogger("voiceops.agentkit")

T = TypeVar("T")

LIST_TIMEOUT_S = 2.0
DEFAULT_EMPTY_TIMEOUT_S = 300
"""The server's; who makes a room with a longer one wants an agent to wait in it."""


async def list_participants(
    client: LiveKitAPI, room: str, *, timeout_s: float = LIST_TIMEOUT_S
) -> list[ParticipantInfo] | None:
    """Everybody in the room, hidden ones too; None when the server does not say in time."""
    from livekit.api import ListParticipantsRequest

    answer = await ask_about(
        room, client.room.list_participants(ListParticipantsRequest(room=room)), timeout_s=timeout_s
    )
    return None if answer is None else list(answer.participants)


async def ask_about(room: str, request: Awaitable[T], *, timeout_s: float = LIST_TIMEOUT_S) -> T | None:
    """The answer of the server to a request about a room; None without one in time."""
    from aiohttp import ClientError
    from livekit.api import TwirpError

    try:
        return await asyncio.wait_for(request, timeout_s)
    except (TwirpError, ClientError, asyncio.TimeoutError, OSError) as error:
        log.warning("the room could not be looked at", extra={"error": repr(error), "pii": {"room": room}})
        return None


def attended(participants: Iterable[ParticipantInfo], *, leaving: Collection[str] = ()) -> bool:
    """Whether a participant that is no agent is in the room; a recorder counts too.

    ``leaving`` are identities that don't count any more.
    """
    info = _participant_info()
    return any(
        one.kind != info.AGENT and one.state != info.DISCONNECTED and one.identity not in leaving
        for one in participants
    )


def called(participants: Iterable[ParticipantInfo], *, leaving: Collection[str] = ()) -> bool:
    """Whether somebody other than agents and recorders is in the room."""
    info = _participant_info()
    return attended((one for one in participants if one.kind != info.EGRESS), leaving=leaving)


def deletes_room(identity: str, participants: Iterable[Any]) -> bool:
    """Whether the agent ``identity`` is the one that deletes the room: the first of those that are ready.

    Takes participants of the API and of ``rtc.Room`` alike.
    """
    info = _participant_info()
    return all(
        one.identity >= identity
        for one in participants
        if one.kind == info.AGENT and one.attributes.get(READY_ATTRIBUTE) == "1"
    )


def caller_deletes(room: str) -> bool:
    """Whether whoever calls deletes the room: true of the rooms of ``inv call``."""
    return room.startswith(CALL_ROOM_PREFIX)


def _participant_info() -> type[ParticipantInfo]:
    """Imported late: a worker that starts does not need it."""
    from livekit.protocol.models import ParticipantInfo

    return ParticipantInfo
