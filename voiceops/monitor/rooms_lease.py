"""Elect one monitor for the rooms of a LiveKit that several hosts share, by a lease in the Redis that joins them.

Its token counts up with each election. LiveKit checks no token, so every request that changes a room asks before
whether the lease still holds, by a clock that counts while the monitor itself is stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from voiceops.deadline import deadline
from voiceops.errors import UnreachableError, VoiceopsError
from voiceops.model.rooms import Dispatch, Participant, Room
from voiceops.model.settings import RoomsSettings
from voiceops.monitor.rooms import RoomActionLog, RoomKeeper
from voiceops.ports import AgentRoomApi
from voiceops.rooms.watcher import LostWorkers

_ANSWER_S = 3.0
_MARGIN_S = 5.0
"""The lease counts as lost so long before Redis drops it."""
_LINE_BYTES = 4096
_TAKE = """
local held = redis.call('GET', KEYS[1])
if not held then
  held = ARGV[1] .. ' ' .. redis.call('INCR', KEYS[2])
  redis.call('SET', KEYS[1], held, 'PX', ARGV[2])
elseif string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return held
"""
"""Take the lease if nobody has it, prolong it if it is ours; who has it, with the token of the election."""
_RELEASE = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then
  redis.call('DEL', KEYS[1])
end
return 'done'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisPlace:
    """A Redis, as a livekit-server is told of it."""

    address: str
    """HOST:PORT."""
    username: str = ""
    password: str = ""


class LeaseLostError(VoiceopsError):
    """Another monitor looks after these rooms."""


class RoomsLease:
    """The lease on the rooms of one LiveKit, for one run of a monitor."""

    def __init__(
        self,
        place: RedisPlace,
        *,
        name: str,
        holder: str,
        lasts_s: float,
        clock: Callable[[], float],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """``name``: what is shared; ``holder``: of this run alone, without blanks; ``clock``: seconds since boot."""
        self._place = place
        self._keys = (f"voiceops:{name}:rooms", f"voiceops:{name}:rooms:token")
        self._holder = holder
        self._lasts_s = lasts_s
        self._clock = clock
        self._say = say
        self._until = 0.0
        self._told = ""
        self.token = 0
        """Of the election that this run has won last."""

    @property
    def holds(self) -> bool:
        """Whether it is ours, as of the last answer."""
        return self._clock() < self._until

    async def take(self) -> bool:
        """Take or prolong the lease; whether it is ours. Where Redis does not answer it is nobody's."""
        asked = self._clock()
        try:
            held = await self._run(_TAKE, self._keys, str(int(self._lasts_s * 1000)))
        except VoiceopsError as error:
            self._tell(f"rooms are not looked after: {error.message}")
            return self.holds
        holder, _, token = held.rpartition(" ")
        if holder != self._holder:
            self._until = 0.0
            self._tell(f"rooms are looked after by the monitor of {holder.partition('/')[0]}")
            return False
        self.token = int(token)
        self._until = asked + self._lasts_s - _MARGIN_S
        self._tell(f"this monitor looks after the rooms (election {token})")
        return True

    async def release(self) -> None:
        """Let another one take it at once; on a Redis that does not answer it ends by itself."""
        if self._until:
            self._until = 0.0
            try:
                await self._run(_RELEASE, self._keys[:1])
            except VoiceopsError:
                return

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._say(line)

    async def _run(self, script: str, keys: Sequence[str], *arguments: str) -> str:
        place = self._place
        parts = urlsplit(f"//{place.address}")
        try:
            async with deadline(_ANSWER_S, "asking Redis"):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_LINE_BYTES)
                try:
                    if place.password:
                        named = [place.username] if place.username else []
                        await _request(reader, writer, ["AUTH", *named, place.password])
                    command = ["EVAL", script, str(len(keys)), *keys, self._holder, *arguments]
                    return await _request(reader, writer, command)
                finally:
                    writer.close()
        except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
            raise UnreachableError(f"Redis at {place.address} can't be asked: {error}") from None


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: Sequence[str]) -> str:
    """Send one command and return its simple answer, by the protocol of Redis (RESP2)."""
    encoded = [word.encode() for word in words]
    writer.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in encoded))
    head = (await reader.readuntil(b"\r\n"))[:-2]
    if head[:1] == b"$" and int(head[1:]) >= 0:
        return (await reader.readexactly(min(int(head[1:]), _LINE_BYTES) + 2))[:-2].decode()
    if head[:1] in (b"+", b":"):
        return head[1:].decode()
    # Never the words of a refusal: a wrong password may stand in it.
    raise ValueError(head[1:].decode(errors="replace").partition(" ")[0] or "no value")


class LeasedRooms:
    """Rooms that are changed only while the lease holds; everything can be read. Implements ``AgentRoomApi``."""

    def __init__(self, api: AgentRoomApi, lease: RoomsLease) -> None:
        self._api = api
        self._lease = lease

    @property
    def url(self) -> str:
        return self._api.url

    @property
    def clock_skew_s(self) -> float:
        return self._api.clock_skew_s

    async def list_rooms(self, names: Sequence[str] = ()) -> tuple[Room, ...]:
        return await self._api.list_rooms(names)

    async def list_participants(self, room: str) -> tuple[Participant, ...]:
        return await self._api.list_participants(room)

    async def list_dispatches(self, room: str) -> tuple[Dispatch, ...]:
        return await self._api.list_dispatches(room)

    async def create_room(
        self,
        name: str,
        *,
        empty_timeout_s: int = 0,
        departure_timeout_s: int = 0,
        agents: Sequence[str] = (),
        agent_metadata: str = "",
    ) -> Room:
        self._check()
        return await self._api.create_room(
            name,
            empty_timeout_s=empty_timeout_s,
            departure_timeout_s=departure_timeout_s,
            agents=agents,
            agent_metadata=agent_metadata,
        )

    async def delete_room(self, name: str) -> None:
        self._check()
        await self._api.delete_room(name)

    async def remove_participant(self, room: str, identity: str) -> None:
        self._check()
        await self._api.remove_participant(room, identity)

    async def create_dispatch(self, room: str, agent_name: str = "", metadata: str = "") -> Dispatch:
        self._check()
        return await self._api.create_dispatch(room, agent_name, metadata)

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        self._check()
        await self._api.delete_dispatch(room, dispatch_id)

    def _check(self) -> None:
        if not self._lease.holds:
            raise LeaseLostError("another monitor may look after these rooms by now")


class ElectedRoomKeeper(RoomKeeper):
    """Looks after the rooms of a shared server while the lease is its own."""

    def __init__(
        self,
        api: AgentRoomApi,
        lease: RoomsLease,
        *,
        settings: RoomsSettings,
        agent_names: Sequence[str],
        memory: Path,
        say: RoomActionLog,
    ) -> None:
        rooms = LeasedRooms(api, lease)
        super().__init__(rooms, settings=settings, agent_names=agent_names, memory=memory, say=say)
        self._lease = lease

    async def look_after(self, *, everywhere: bool = False, lost: LostWorkers | None = None) -> int:
        if not await self._lease.take():
            return 0
        return await super().look_after(everywhere=everywhere, lost=lost)

    async def clean(self) -> None:
        if self._lease.holds:
            await super().clean()

    def doubtful(self) -> tuple[Room, ...]:
        return super().doubtful() if self._lease.holds else ()
