"""The services of one host and what acts on them, for any backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voiceops.deadline import Deadline
from voiceops.kinds.model import Declared
from voiceops.stack.backend import Backend
from voiceops.stack.model import Instance, Observed, Usage
from voiceops.stack.occupancy import Occupancy
from voiceops.stack.results import Progress, silent

if TYPE_CHECKING:
    from voiceops.model.settings import LivekitSettings
    from voiceops.rooms.live_calls import LiveRooms


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """How a run takes a share of new calls before it takes all of them."""

    share: float
    watch: Callable[[Declared, Instance, Callable[[], Observed]], None]
    """Watches that run beside the one before it, which it gets by asking again; raises unless it stands the comparison."""


Prove = Callable[[Declared, str, Callable[[], bool]], None]
"""Raises unless the agent of a service that registered this name answers a call; asks whether it has ended meanwhile."""
AfterServer = Callable[[Sequence[str], Callable[[], "frozenset[str] | None"]], None]
"""Sends agents to callers who came to a restarted server before these had registered again; gets their names, and what
tells their rooms."""
GatedStart = Callable[[Declared, Deadline, Prove, Canary | None], Instance]
"""The run once all callers reach it; what raises has ended it before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivekitAccess:
    """What a stack does with the rooms of its LiveKit; see the fields of ``Stack``."""

    occupancy: Occupancy | None = None
    before_agents: Callable[[], None] | None = None
    after_server: AfterServer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The services of one host and what acts on them."""

    services: Callable[[], tuple[Declared, ...]]
    """Complete declarations; may make keys and fetch secrets, so it is called under the lock."""
    outline: tuple[Declared, ...]
    backend: Backend
    lock: Callable[[Deadline], AbstractContextManager[None]]
    fetch: Callable[[], None] = lambda: None
    """Gets the programs that are missing; may take minutes, so no lock is held and no time is counted."""
    before_agents: Callable[[], None] | None = None
    """Cleans rooms before an agent takes calls."""
    after_server: AfterServer | None = None
    hold_callers: Callable[[], AbstractContextManager[LivekitAccess | None]] | None = None
    """Has callers who connect anew wait until the block ends, so that nobody meets a server that is about to end; yields
    how LiveKit is reached meanwhile. None: they can't be held."""
    occupancy: Occupancy | None = None
    """Asked only when calls may be at risk. None: the stack has no LiveKit."""
    progress: Progress = silent
    live_rooms: Callable[[], LiveRooms | None] = lambda: None
    """The rooms of its LiveKit and who is in a call; None when it does not say."""
    livekit: LivekitSettings | None = None
    """The LiveKit of its host, with a URL that is good on this machine."""
    usage: Callable[[Instance], Usage | None] = lambda instance: instance.usage
    """CPU and memory of a run; None where they are not known."""
    refusal: Callable[[], str] = lambda: ""
    """Why its LiveKit refuses this project's key; empty where it does not, or can't be asked."""
    want: Callable[[Sequence[str], bool], None] = lambda names, wanted: None
    """Remembers what a person has started, or stopped: a monitor brings back the former only."""
    gated_start: GatedStart | None = None
    """Starts a run that callers reach only once it is proved; None where all that starts takes calls."""
    prove: Prove | None = None
    """With it, a run that replaces another one is started by ``gated_start``."""
    canary: Canary | None = None
    """With ``prove``: what is proved takes a share of new calls for a time."""
    host: str = ""
    """The server's name, for commands that people type; empty: this machine."""
    close: Callable[[], None] = lambda: None
    """Lets go of the way to the host; safe to call again."""
