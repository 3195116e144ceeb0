"""What the programs are asked that start, await and end units, and what they answer.

The programs in ``onhost`` import these types for type checkers only.
"""

from __future__ import annotations

from typing import TypedDict

from voiceops.remote.messages import HostRequest, UnitState


class StartUnit(HostRequest):
    """Start a unit, or an instance beside those that still drain."""

    unit: str
    instance: str
    twins: list[str]
    """Files of the instance, of which another one of the same release gets links."""
    proof_name: str
    """Name that an agent registers until it is proved; empty: its own, so that it takes calls at once."""


class UnitAnswer(TypedDict):
    """A unit right after it was acted on."""

    unit: UnitState


class WaitForUnit(HostRequest):
    """Wait until a unit is ready."""

    unit: str
    timeout_s: float
    settle_s: float
    log: str
    """A regular expression that a line of its log must match; empty: none."""
    not_worker_id: str
    enable: str
    """Pattern of the instances of which only this one starts with the host; empty for what is no agent."""
    gate: str
    """``closed``: an agent may wait for its proof, and does not start with the host yet; ``open``: it is proved."""
    pid: int
    """The only main process that counts; 0: any."""
    share: float
    """With ``gate`` open: of new calls, as a canary, which does not start with the host yet; 1: all."""


class _Ready(TypedDict):
    unit: UnitState
    ready: bool


class ReadyAnswer(_Ready, total=False):
    """Whether it is ready, else why not, with the end of its log."""

    died: bool
    why: str
    log: list[str]


class EndUnit(HostRequest):
    """Stop a unit and wait for its end."""

    unit: str
    kill: bool
    begin: bool
    """Answer as soon as it drains."""
    timeout_s: float
    again_s: float
    """Send a second signal after so long; 0: never."""
    hand_over: bool
    """Signal a livekit-server once, wait for its participants, and start it again."""
    takeover: list[str]
    """Program with arguments that leads its callers elsewhere after its end; ``--pid`` comes behind them."""
    table: str
    ports: list[int]
    """As in ``HoldConnections``: new connections wait from when it is led nowhere until it runs again; empty: they don't."""


class EndAnswer(TypedDict, total=False):
    """Whether it is gone, else its last answer to a health check."""

    gone: bool
    health: dict[str, object] | None


class EndProcess(HostRequest):
    """End a process that no unit runs."""

    pid: int
    start: str
    timeout_s: float


class HoldConnections(HostRequest):
    """Have new connections from elsewhere wait for some seconds; without ``ports`` they are let in at once."""

    table: str
    """Of nftables; the project's own."""
    ports: list[int]


class HoldAnswer(TypedDict):
    """Whether they wait, and why they don't."""

    held: bool
    why: str
