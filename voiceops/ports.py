"""What the upper floors ask of the edges, as Protocols of at most five methods.

A port is shaped by who uses it; the adapters and ``tests/support/fakes`` implement it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from voiceops.model.monitor_events import MonitorEvent
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


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How a program on a host ended. Output is bounded: of more than the limit, the end is kept."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def last_line(self) -> bytes:
        """Of stdout: what a program says after whatever the login shell's own files print."""
        return self.stdout.strip().rpartition(b"\n")[2]


class RemoteProcess(Protocol):
    """A program that runs on a host, with pipes to it."""

    def write(self, data: bytes) -> None:
        """Send to its input; ``UnreachableError`` when the connection is gone."""
        ...

    def end_input(self) -> None:
        """Say that nothing more comes; safe to call again."""
        ...

    def read(self, silence_s: float) -> bytes:
        """Some of its output, empty at its end; ``DeadlineError`` when nothing comes for so long."""
        ...

    def wait(self) -> ProgramResult:
        """Its exit code and error output, once ``read`` returned nothing."""
        ...

    def close(self) -> None:
        """Hang up; safe to call again."""
        ...


class Transport(Protocol):
    """A way to one host. Connects on first use."""

    @property
    def name(self) -> str:
        """The host's name in the inventory."""
        ...

    def open(self) -> None:
        """Connect now, while there is other work to do; what else is called connects by itself."""
        ...

    def start(self, argv: Sequence[str], *, root: bool = False) -> RemoteProcess:
        """Run a program there, through sudo where ``root`` asks for more than the login has.

        ``UnreachableError``; ``CredentialsError`` for a refused key or sudo password.
        """
        ...

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float = 60.0
    ) -> ProgramResult:
        """Run a program to its end; exit 127 means that the host does not have it."""
        ...

    def close(self) -> None:
        """End the connection and what runs over it; safe to call again, and from another thread."""
        ...


class MonitorRecorder(Protocol):
    """Who keeps what the monitor says. The monitor goes on whatever becomes of it, so neither method raises."""

    def record(self, event: MonitorEvent) -> None:
        """Keep or count one event; returns at once, also when the disk is slow. Called from the monitor's event loop."""
        ...

    def close(self) -> None:
        """Write what is still held; safe to call again."""
        ...
