"""Delete one room so that it is really gone, whatever state the server keeps it in."""

from __future__ import annotations

import asyncio
import logging

from voiceops.errors import CallsInProgressError, CredentialsError, NotFoundError, VoiceopsError
from voiceops.model.settings import RoomsSettings
from voiceops.ports import RoomApi
from voiceops.rooms.presence import persons

log = logging.getLogger(__name__)

NOBODY = "__none__"
"""An agent name under which no worker registers: re-homing a room must not dispatch anyone."""
TRIES = 3
BACKOFF_S = 2.0


class RoomsRemainError(VoiceopsError):
    """Deleted rooms are still there; ``names`` has them, the message does not."""

    def __init__(self, names: tuple[str, ...]) -> None:
        count = f"{len(names)} rooms still exist" if len(names) != 1 else "the room still exists"
        super().__init__(
            f"{count} after being deleted",
            hint="something makes them anew: a client that rejoins, or a dispatch; `inv rooms.list` shows them",
            data={"rooms": list(names)},
            retryable=True,
        )
        self.names = names


async def delete_room(api: RoomApi, name: str) -> bool:
    """End the room and every connection to it; False if there was none. Safe to call twice.

    Does not look who is in it: ``cleanup_room`` does. A room whose node died stays in Redis and
    DeleteRoom fails on it (livekit issue 3766): creating it anew moves it to a living node, from
    which it can be deleted. Without an agent of no worker's name, the room that comes back would
    get agents as well. For 5 s after its end a node counts as alive in Redis, and the room is
    created on it in vain: so this is tried again.
    """
    try:
        await api.delete_room(name)
    except NotFoundError:
        return False
    except CredentialsError:
        raise
    except VoiceopsError as error:
        if not error.retryable:
            raise
        if not await api.list_rooms([name]):
            return True
        log.info("room has no living node, moving it", extra={"pii": {"room": name}})
        await _move_and_delete(api, name)
    return True


async def _move_and_delete(api: RoomApi, name: str) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            await api.create_room(name, agents=[NOBODY])
            await api.delete_room(name)
            return
        except NotFoundError:
            return
        except VoiceopsError as error:
            if not error.retryable or attempt == TRIES:
                raise
            log.info("no living node took the room", extra={"attempt": attempt})
            await asyncio.sleep(BACKOFF_S)


async def cleanup_room(
    api: RoomApi, name: str, *, sid: str = "", force: bool = False, settings: RoomsSettings | None = None
) -> bool:
    """End one room unless a person is in it; False if there was none. Safe to call twice.

    With ``sid`` only the room that has it; False if another one has taken its name.

    Raises ``CallsInProgressError`` where a person is, unless ``force``; ``RoomsRemainError`` if the
    room is still listed afterwards.
    """
    settings = settings or RoomsSettings()
    before = await api.list_rooms([name])
    if not before or (sid and before[0].sid != sid):
        return False
    if not force:
        people = persons(await api.list_participants(name), settings)
        if people:
            raise CallsInProgressError(
                f"{len(people)} in the room would be cut off" if len(people) > 1 else "a call is in the room",
                hint="wait until it has ended, or give --yes to cut it off",
                data={"rooms": [name], "participants": [one.identity for one in people]},
            )
    await delete_room(api, name)
    sids = {room.sid for room in before}
    if any(room.sid in sids for room in await api.list_rooms([name])):
        raise RoomsRemainError((name,))
    return True


async def ensure_clean_room(
    api: RoomApi,
    name: str,
    *,
    force: bool = False,
    settings: RoomsSettings | None = None,
    tries: int = TRIES,
    backoff_s: float = BACKOFF_S,
) -> bool:
    """Make sure that the next one to join ``name`` gets a fresh room; True if one had to go.

    Up to ``tries`` times with ``backoff_s`` between, read back each time: a room that a dispatch
    in flight makes anew goes in the next round. Safe to call at any time, by several at once.
    Raises ``CallsInProgressError`` where a person is (unless ``force``) and ``RoomsRemainError``
    if the room keeps coming back.
    """
    changed = False
    for attempt in range(1, tries + 1):
        try:
            changed = await cleanup_room(api, name, force=force, settings=settings) or changed
            if not await api.list_rooms([name]):
                return changed
        except VoiceopsError as error:
            if not error.retryable or attempt == tries:
                raise
            log.info("room is not clean yet", extra={"attempt": attempt, "error": type(error).__name__})
        if attempt < tries:
            await asyncio.sleep(backoff_s)
    raise RoomsRemainError((name,))
