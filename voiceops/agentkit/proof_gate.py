"""Keeps callers away from a worker until a deploy has proved its release.

The deploy writes a name into a file beside the folder of the worker's health socket before it starts the worker.
While the file is there, the worker is registered with LiveKit under that name, which only the proof call asks for;
once it is gone, under its own. A share in the file (``share 0.1``) lets it take that share of new calls beside the run
that it is to replace (``call_share``). LiveKit offers a job to workers that have registered its very name, an unnamed one
to those without a name, so this is the same for automatic and for explicit dispatch.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceops.agentkit.worker import Worker

SUFFIX = ".gate"
_EVERY_S = 0.02
_NAME_LENGTH = 200


def gate_file(health_socket: str | None) -> Path | None:
    """Return where a worker with this health socket is told of its gate; the folder is root's on a server."""
    if not health_socket:
        return None
    folder = Path(health_socket).parent
    return folder.with_name(folder.name + SUFFIX)


def proof_name(gate: Path | None) -> str:
    """Return the name to register under for now; empty: the worker's own."""
    text = _read(gate)
    return "" if share_in(text) else text


def call_share(gate: Path | None) -> float:
    """Return the share of new calls that the worker is to take; 1: all that LiveKit offers it."""
    return share_in(_read(gate)) or 1.0


def share_in(text: str) -> float:
    """Return the share that stands in the file; 0: a name does, or nothing."""
    found = re.fullmatch(r"share (0\.\d{1,6})", text)
    return float(found[1]) if found else 0.0


def _read(gate: Path | None) -> str:
    try:
        return gate.read_text(encoding="utf-8").strip()[:_NAME_LENGTH] if gate else ""
    except OSError:
        return ""


async def open_when_proved(gate: Path, worker: Worker) -> None:
    """Register under the worker's own name, for a share of the calls once the file says so, for all once it is gone."""
    while gate.exists():  # noqa: ASYNC240 - a file in memory that root removes
        share = share_in(_read(gate))
        if share and share != worker.share:
            await worker.take_calls(share=share)
        await asyncio.sleep(_EVERY_S)
    await worker.take_calls()
