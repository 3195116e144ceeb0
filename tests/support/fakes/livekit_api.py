"""LiveKit's room and dispatch API in memory; ``tests/contract/test_room_api.py`` holds it to the real one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import msgspec

from voiceops.errors import NotFoundError, UnreachableError, UsageError, VoiceopsError
from voiceops.model.rooms import Dispatch, Participant, Room

NAME_MAX = 256


class FakeLivekitApi:
    """Implements ``AgentRoomApi``. Tests put participants in, age rooms, and make calls fail."""

    def __init__(self, *, url: str = "ws://fake") -> None:
        self.url = url
        self.clock_skew_s = 0.0
        self.rooms: dict[str, Room] = {}
        self.participants: dict[str, list[Participant]] = {}
        self.dispatches: dict[str, list[Dispatch]] = {}
        self.unserved: set[str] = set()
        """Rooms of a dead node: they are listed, and every other call about them fails."""
        self.calls: list[tuple[str, str]] = []
        self.failures: dict[str, list[VoiceopsError]] = {}
        """By method: raised one after the other, before anything happens."""
        self._numbers = itertools.count(1)

    def put(self, name: str, *participants: Participant, age_s: float = 0.0, **room: object) -> Room:
        """A room with these participants, made ``age_s`` ago."""
        made = self._make(name, ())
        made = msgspec.structs.replace(made, created_at=time.time() - age_s, **room)
        self.rooms[name] = made
        self.participants[name] = list(participants)
        return made

    def count(self, method: str) -> int:
        return sum(called == method for called, _ in self.calls)

    async def list_rooms(self, names: Sequence[str] = ()) -> tuple[Room, ...]:
        self._called("list_rooms", "")
        return tuple(room for name, room in self.rooms.items() if not names or name in names)

    async def create_room(
        self,
        name: str,
        *,
        empty_timeout_s: int = 0,
        departure_timeout_s: int = 0,
        agents: Sequence[str] = (),
        agent_metadata: str = "",
    ) -> Room:
        self._called("create_room", name)
        if len(name) > NAME_MAX:
            raise UsageError("room name length exceeds limits")
        if name in self.unserved:
            self.unserved.discard(name)
            self.participants[name] = []
        if name not in self.rooms:
            room = self._make(name, agents, agent_metadata)
            self.rooms[name] = msgspec.structs.replace(
                room,
                empty_timeout_s=empty_timeout_s or room.empty_timeout_s,
                departure_timeout_s=departure_timeout_s or room.departure_timeout_s,
            )
        return self.rooms[name]

    async def delete_room(self, name: str) -> None:
        self._called("delete_room", name)
        if name not in self.rooms:
            raise NotFoundError("requested room does not exist")
        self._served(name)
        for everything in (self.rooms, self.participants, self.dispatches):
            everything.pop(name, None)

    async def list_participants(self, room: str) -> tuple[Participant, ...]:
        self._called("list_participants", room)
        return tuple(self.participants.get(room, ()))

    async def remove_participant(self, room: str, identity: str) -> None:
        self._called("remove_participant", room)
        before = self.participants.get(room, [])
        after = [one for one in before if one.identity != identity]
        if len(after) == len(before):
            raise NotFoundError("participant does not exist")
        self.participants[room] = after

    async def create_dispatch(self, room: str, agent_name: str = "", metadata: str = "") -> Dispatch:
        self._called("create_dispatch", room)
        if room not in self.rooms:
            self.rooms[room] = self._make(room, ())
        made = self._dispatch(room, agent_name, metadata)
        self.dispatches[room].append(made)
        return made

    async def list_dispatches(self, room: str) -> tuple[Dispatch, ...]:
        self._called("list_dispatches", room)
        if room not in self.rooms:
            raise UnreachableError("no response from servers", data={"status": 503}, retryable=True)
        self._served(room)
        return tuple(self.dispatches[room])

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        self._called("delete_dispatch", room)
        before = self.dispatches.get(room, [])
        if all(one.id != dispatch_id for one in before):
            raise NotFoundError("dispatch ID not found")
        self.dispatches[room] = [one for one in before if one.id != dispatch_id]

    def _called(self, method: str, room: str) -> None:
        self.calls.append((method, room))
        if method != "list_rooms" and not room:
            raise UsageError("the room has no name")
        if self.failures.get(method):
            raise self.failures[method].pop(0)

    def _served(self, room: str) -> None:
        if room in self.unserved:
            raise UnreachableError("no response from servers", data={"status": 503}, retryable=True)

    def _make(self, name: str, agents: Sequence[str], metadata: str = "") -> Room:
        self.participants[name] = []
        self.dispatches[name] = [self._dispatch(name, agent, metadata) for agent in agents or ("",)]
        return Room(
            name=name,
            sid=f"RM_{next(self._numbers)}",
            created_at=time.time(),
            empty_timeout_s=300,
            departure_timeout_s=20,
        )

    def _dispatch(self, room: str, agent_name: str, metadata: str) -> Dispatch:
        return Dispatch(
            id=f"AD_{next(self._numbers):06}",
            room=room,
            agent_name=agent_name,
            metadata=metadata,
            created_at=time.time(),
        )
