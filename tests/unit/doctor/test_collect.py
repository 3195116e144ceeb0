"""A look that fails is said, and a room that ends while it is looked at is no orphan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.doctor.scenes import NOW, server, worker, worker_line
from voiceops.doctor.collect import UNCOUNTED_MOST, collect
from voiceops.doctor.facts import HostFact, LogEvent, WorkerFact
from voiceops.doctor.logs import event_of
from voiceops.errors import ConfigError, StorageError, UnreachableError
from voiceops.model.rooms import Participant, Room
from voiceops.model.server import ServerFact
from voiceops.model.settings import RoomsSettings
from voiceops.stack.logs.files import TimedLine


class Sources:
    async def server(self) -> ServerFact:
        return server()

    async def workers(self) -> Sequence[WorkerFact]:
        return (worker(registered_at=None),)

    async def events(self, since: float) -> Sequence[LogEvent]:
        return (worker_line("registered worker", 30, level="INFO"),)

    async def host(self) -> HostFact:
        raise StorageError("no /proc here")

    def now(self) -> float:
        return NOW


class Rooms:
    """A server whose dispatches can't be listed; ``left`` rooms are listed only once."""

    def __init__(self, *names: str, left: bool) -> None:
        self.names = names
        self.left = left
        self.asked = 0

    async def list_rooms(self, names: Sequence[str] = ()) -> tuple[Room, ...]:
        self.asked += 1
        if self.left and self.asked > 1:
            return ()
        return tuple(Room(name=name, sid=f"RM_{name}", created_at=NOW - 60) for name in self.names)

    async def list_participants(self, room: str) -> tuple[Participant, ...]:
        return ()

    async def list_dispatches(self, room: str) -> tuple[Any, ...]:
        raise UnreachableError("no response from servers")


async def test_what_could_not_be_looked_at_is_said_and_the_rest_is_there() -> None:
    facts = await collect(Sources(), None, RoomsSettings())
    assert facts.problems == ("could not inspect this machine: no /proc here",)
    assert facts.incomplete
    assert facts.workers[0].registered_at == NOW - 30


async def test_a_room_that_closes_under_the_look_is_left_out() -> None:
    facts = await collect(Sources(), Rooms("r", left=True), RoomsSettings())  # type: ignore[arg-type]
    assert facts.rooms == ()


async def test_a_room_that_stays_and_that_no_node_serves_is_kept_with_the_error() -> None:
    facts = await collect(Sources(), Rooms("r", left=False), RoomsSettings())  # type: ignore[arg-type]
    assert facts.rooms[0].dispatches is None
    assert facts.rooms[0].dispatch_error == "no response from servers"


class ManyRooms:
    """A server with more rooms than are worth a look each; ``counted`` of them with somebody in."""

    def __init__(self, rooms: int, counted: int) -> None:
        self.listed = tuple(
            Room(
                name=f"r{number}",
                sid=f"RM_{number}",
                created_at=NOW - 1000 + number / 10,
                num_participants=int(number >= rooms - counted),
            )
            for number in range(rooms)
        )
        self.looked_at: list[str] = []

    async def list_rooms(self, names: Sequence[str] = ()) -> tuple[Room, ...]:
        return tuple(room for room in self.listed if not names or room.name in names)

    async def list_participants(self, room: str) -> tuple[Participant, ...]:
        self.looked_at.append(room)
        return ()

    async def list_dispatches(self, room: str) -> tuple[Any, ...]:
        return ()


class AllSeen(Sources):
    async def host(self) -> HostFact:
        return HostFact()


async def test_of_thousands_of_rooms_those_with_somebody_and_a_share_of_the_others_are_looked_at() -> None:
    rooms = ManyRooms(3000, 50)
    facts = await collect(AllSeen(), rooms, RoomsSettings())  # type: ignore[arg-type]
    assert {f"r{number}" for number in range(2950, 3000)} <= set(rooms.looked_at)
    assert {f"r{number}" for number in range(UNCOUNTED_MOST)} <= set(rooms.looked_at)
    assert len(rooms.looked_at) == 50 + UNCOUNTED_MOST
    assert "2750 rooms in which LiveKit counts nobody: `inv cleanup-rooms`" in facts.problems
    assert not facts.incomplete


async def test_the_room_that_was_asked_for_is_looked_at_though_nobody_is_counted() -> None:
    rooms = ManyRooms(3000, 0)
    facts = await collect(Sources(), rooms, RoomsSettings(), wanted_room="r2999")  # type: ignore[arg-type]
    assert [room.name for room in facts.rooms] == ["r2999"]


def test_of_a_line_only_plain_fields_and_pii_stay() -> None:
    text = '{"level":"INFO","msg":"starting RTC session","room":"r","client":{"sdk":"GO"},"pii":{"room":"r"},"n":1}'
    event = event_of(TimedLine(1.0, "livekit", text))
    assert (event.level, event.message) == ("info", "starting RTC session")
    assert event.fields == {
        "level": "INFO",
        "msg": "starting RTC session",
        "room": "r",
        "pii": {"room": "r"},
        "n": 1,
    }


def test_a_line_that_is_no_json_object_keeps_its_text() -> None:
    for text in ("[1, 2]", '{"cut', "plain words"):
        assert event_of(TimedLine(1.0, "agent", text)).message == text


async def test_a_key_that_is_not_set_ends_the_look_and_is_no_server_that_is_down() -> None:
    class Keyless(Sources):
        async def server(self) -> ServerFact:
            raise ConfigError("the variable LIVEKIT_API_KEY is not set")

    with pytest.raises(ConfigError, match="LIVEKIT_API_KEY"):
        await collect(Keyless(), None, RoomsSettings())


async def test_a_room_that_nobody_has_is_said_to_be_missing() -> None:
    nobody: Any = Rooms(left=True)
    facts = await collect(Sources(), nobody, RoomsSettings(), wanted_room="NOPE")
    assert facts.room_is_missing
    one: Any = Rooms("r", left=False)
    facts = await collect(Sources(), one, RoomsSettings(), wanted_room="r")
    assert not facts.room_is_missing
