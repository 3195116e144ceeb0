"""Prove the room library against a server, step by step: what one runs after an upgrade."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from voiceops.errors import VoiceopsError
from voiceops.model.settings import RoomsSettings
from voiceops.ports import AgentRoomApi
from voiceops.rooms.cleanup import cleanup_stale_rooms
from voiceops.rooms.dispatch import dispatch_agent
from voiceops.rooms.reading import get_room_info, list_rooms, remove_participant
from voiceops.rooms.removal import cleanup_room, delete_room, ensure_clean_room
from voiceops.rooms.rules import Rule

NOBODY = "voiceops-selftest-nobody"
"""An agent name of no worker: the test must not bring real agents."""
ODD_NAME = 'a "b" $(c) \U0001f600\n[d]'


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One promise of the library, and whether the server lets it be kept."""

    name: str
    ok: bool
    took_s: float
    detail: str = ""


class _Failed(Exception):
    """A step saw something else than it should."""


async def selftest(
    api: AgentRoomApi, *, tell: Callable[[Step], None] = lambda _step: None
) -> tuple[Step, ...]:
    """Make a room, dirty it, clean it, verify, delete. Touches only rooms of its own.

    Ends at the first step that fails; its own rooms are gone afterwards in any case. ``tell`` is
    called after each step.
    """
    test = _Selftest(api, f"voiceops-selftest-{uuid.uuid4().hex[:12]}")
    done: list[Step] = []
    try:
        for name, step in test.steps():
            began = time.monotonic()
            try:
                detail = await step()
                ok = True
            except (_Failed, VoiceopsError) as error:
                detail, ok = str(error), False
            done.append(Step(name=name, ok=ok, took_s=round(time.monotonic() - began, 4), detail=detail))
            tell(done[-1])
            if not ok:
                break
    finally:
        await test.end()
    return tuple(done)


class _Selftest:
    def __init__(self, api: AgentRoomApi, room: str) -> None:
        self._api = api
        self._room = room
        self._odd = f"{room} {ODD_NAME}"

    def steps(self) -> tuple[tuple[str, Callable[[], Awaitable[str]]], ...]:
        return (
            ("the server answers and takes our credentials", self._connect),
            ("a room is made and listed", self._make),
            ("an agent is dispatched once, however often one asks", self._dirty),
            ("a participant that is not there is removed without complaint", self._remove),
            ("cleanup leaves a young room alone", self._keep),
            ("a keep pattern protects a room", self._protect),
            ("ensure-clean leaves no room behind", self._clean),
            ("cleaning again changes nothing", self._clean_again),
            ("a room with an odd name comes and goes", self._odd_name),
            ("cleanup deletes an empty room, and no other", self._cleanup),
            ("nothing of this test is left", self._nothing_left),
        )

    async def end(self) -> None:
        for name in (self._room, self._odd):
            await delete_room(self._api, name)

    async def _connect(self) -> str:
        rooms = await list_rooms(self._api)
        return f"{len(rooms)} rooms; its clock differs by {self._api.clock_skew_s:+.0f} s"

    async def _make(self) -> str:
        room = await self._api.create_room(self._room, agents=[NOBODY])
        _expect(room.name == self._room and room.sid != "", "the answer names another room")
        _expect(room.created_at > 0, "the room has no creation time")
        _expect(len(await list_rooms(self._api, [self._room])) == 1, "the new room is not listed")
        return room.sid

    async def _dirty(self) -> str:
        for _ in range(3):
            await dispatch_agent(self._api, self._room, NOBODY)
        info = await get_room_info(self._api, self._room)
        of_name = [one for one in info.dispatches if one.agent_name == NOBODY]
        _expect(len(of_name) == 1, f"{len(of_name)} dispatches instead of one")
        return of_name[0].id

    async def _remove(self) -> str:
        _expect(not await remove_participant(self._api, self._room, "nobody"), "it was there")
        return ""

    async def _keep(self) -> str:
        report = await cleanup_stale_rooms(self._api, RoomsSettings(stale_after_s=3600.0), names=[self._room])
        verdict = [one for one in report.kept if one.snapshot.room.name == self._room]
        _expect(len(verdict) == 1, "it would have been deleted")
        return verdict[0].reason

    async def _protect(self) -> str:
        settings = RoomsSettings(stale_after_s=0.0, keep=["voiceops-selftest-*"])
        report = await cleanup_stale_rooms(self._api, settings, names=[self._room], force=True)
        _expect(not report.deleted, "it would have been deleted")
        return ""

    async def _clean(self) -> str:
        _expect(await ensure_clean_room(self._api, self._room), "there was nothing to clean")
        _expect(not await list_rooms(self._api, [self._room]), "the room is still listed")
        return ""

    async def _clean_again(self) -> str:
        _expect(not await ensure_clean_room(self._api, self._room), "something was changed")
        _expect(not await cleanup_room(self._api, self._room), "something was changed")
        return ""

    async def _odd_name(self) -> str:
        room = await self._api.create_room(self._odd, agents=[NOBODY])
        _expect(room.name == self._odd, "the server changed the name")
        _expect(await delete_room(self._api, self._odd), "the room was not found")
        return ""

    async def _cleanup(self) -> str:
        await self._api.create_room(self._room, agents=[NOBODY])
        rooms = await list_rooms(self._api)
        settings = RoomsSettings(stale_after_s=0.0)
        report = await cleanup_stale_rooms(self._api, settings, names=[self._room])
        deleted = [(one.snapshot.room.name, one.rule) for one in report.deleted]
        _expect(deleted == [(self._room, Rule.EMPTY)], f"{len(deleted)} rooms were deleted instead of one")
        return f"{len(rooms) - 1} others untouched"

    async def _nothing_left(self) -> str:
        left = await list_rooms(self._api, [self._room, self._odd])
        _expect(not left, f"{len(left)} rooms are left")
        return ""


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Failed(otherwise)
