"""What the upper floors ask of the edges, as Protocols of at most five methods.

A port is shaped by who uses it; the adapters and ``tests/fakes`` implement it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from voiceops.model.rooms import Dispatch, Participant, Room


class RoomApi(Protocol):
    """Rooms and who is in them. Every call ends within the adapter's own deadline."""

    @property
    def url(self) -> str:
        """The server's address as it was configured: locks and observations are per server."""
        ...

    @property
    def clock_skew_s(self) -> float:
        """Seconds that the server's clock is ahead of ours: its times are compared with its clock."""
        ...

    async def list_rooms(self, names: Sequence[str] = ()) -> tuple[Room, ...]:
        """All rooms, or those of ``names`` that exist."""
        ...

    async def create_room(
        self,
        name: str,
        *,
        empty_timeout_s: int = 0,
        departure_timeout_s: int = 0,
        agents: Sequence[str] = (),
        agent_metadata: str = "",
    ) -> Room:
        """Make the room, or return the one that exists; no ``agents``: one implicit unnamed dispatch."""
        ...

    async def delete_room(self, name: str) -> None:
        """End the room and every connection to it; ``NotFoundError`` if there is none."""
        ...

    async def list_participants(self, room: str) -> tuple[Participant, ...]:
        """Everybody in the room; empty, not an error, for a room that does not exist."""
        ...

    async def remove_participant(self, room: str, identity: str) -> None:
        """Disconnect one participant; ``NotFoundError`` if there is none."""
        ...


class DispatchApi(Protocol):
    """Which agents a room has been promised."""

    async def create_dispatch(self, room: str, agent_name: str = "", metadata: str = "") -> Dispatch:
        """Ask for one more agent. Never idempotent: each call adds one, and makes a missing room."""
        ...

    async def list_dispatches(self, room: str) -> tuple[Dispatch, ...]:
        """The dispatches of a live room; where no node serves it: ``UnreachableError`` after 3 s."""
        ...

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        """Withdraw a dispatch; the agent that it brought leaves 3 s later."""
        ...


class AgentRoomApi(RoomApi, DispatchApi, Protocol):
    """Both: what bringing an agent into a room takes."""
