"""What a call needs of the edges."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from voiceops.errors import ServiceError
from voiceops.model.calls import CallJob, CallResult, PhoneEvent

if TYPE_CHECKING:
    from voiceops.model.documents.common import DiagnosisEntry


class CallerCrashError(ServiceError):
    """The process that carried a call crashed in LiveKit's native client: this says nothing about the call."""

    def __init__(self, result: CallResult) -> None:
        super().__init__(result.failure.detail if result.failure is not None else "")
        self.result = result
        """The call as one that failed."""


class Phone(Protocol):
    """The caller's end of one line."""

    async def dial(self, url: str, token: str) -> None:
        """Join the room; ``CredentialsError`` or ``UnreachableError`` when that fails."""
        ...

    async def open_microphone(self) -> None:
        """Publish a microphone: an agent session links to whoever publishes one."""
        ...

    async def next_event(self) -> PhoneEvent:
        """The next thing that was seen, in order."""
        ...

    async def say(self, wav: str) -> float:
        """Speak a WAV file; returns the monotonic time of its last word's end."""
        ...

    async def hang_up(self) -> None:
        """Leave and let go of everything; safe to call twice and at any time."""
        ...


Inquiry = Callable[[CallResult], Awaitable[None]]
"""Called with a failed call while its caller is still on the line."""

Why = Callable[[str], Awaitable["DiagnosisEntry | None"]]
"""Asks the ``why`` rules about a room; None when they find nothing."""


class Callers(Protocol):
    """Whoever places calls: this process, or a pool of them."""

    async def place(self, job: CallJob, inquire: Inquiry | None = None) -> CallResult:
        """Carry out one call; of a call that went wrong only ``CallerCrashError`` is raised."""
        ...

    async def usage(self) -> tuple[int, float, Sequence[float]]:
        """Processes beside this one, CPU seconds that all callers used, how late their loops woke up."""
        ...

    async def aclose(self) -> None:
        """End every process and task of it."""
        ...


class CallRooms(Protocol):
    """Lets callers in and clears up after them."""

    async def invite(self, room: str) -> None:
        """See that a named agent is on its way into a room that may exist already."""
        ...

    def token(self, *, room: str, identity: str, ttl_s: float) -> str:
        """A token that opens ``room`` only; asks for the agent where it is named."""
        ...

    async def discard(self, room: str, identity: str) -> bool:
        """Delete a room of ours if nobody but us and agents is in it; False: kept."""
        ...

    async def discard_again(self, rooms: tuple[str, ...], *, settle: bool) -> None:
        """Delete what came back; ``settle`` waits for dispatches in flight, which recreate a deleted room."""
        ...
