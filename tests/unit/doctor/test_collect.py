"""A look that fails is said, and a room that ends while it is looked at is no orphan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.unit.doctor.scenes import NOW, server, worker, worker_line
from voiceops.doctor.collect import collect
from voiceops.doctor.facts import HostFact, LogEvent, ServerFact, WorkerFact
from voiceops.errors import StorageError, UnreachableError
from voiceops.model.rooms import Participant, Room
from voiceops.model.settings import RoomsSettings


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
    assert facts.problems == ("could not look at this machine: no /proc here",)
    assert facts.workers[0].registered_at == NOW - 30


async def test_a_room_that_closes_under_the_look_is_left_out() -> None:
    facts = await collect(Sources(), Rooms("r", left=True), RoomsSettings())  # type: ignore[arg-type]
    assert facts.rooms == ()


async def test_a_room_that_stays_and_that_no_node_serves_is_kept_with_the_error() -> None:
    facts = await collect(Sources(), Rooms("r", left=False), RoomsSettings())  # type: ignore[arg-type]
    assert facts.rooms[0].dispatches is None
    assert facts.rooms[0].dispatch_error == "no response from servers"
