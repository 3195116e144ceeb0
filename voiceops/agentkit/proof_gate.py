"""Keeps callers away from a worker until a deploy has proved its release.

The deploy writes a name into a file beside the folder of the worker's health socket before it starts the worker.
While the file is there, the worker is registered with LiveKit under that name, which only the proof call asks for;
once it is gone, under its own. LiveKit offers a job to workers that have registered its very name, an unnamed one
to those without a name, so this is the same for automatic and for explicit dispatch.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceops.agentkit.worker import Worker

SUFFIX = ".gate"
_EVERY_S = 0.05
_NAME_LENGTH = 200


def gate_file(health_socket: str | None) -> Path | None:
    """Return where a worker with this health socket is told of its gate; the folder is root's on a server."""
    if not health_socket:
        return None
    folder = Path(health_socket).parent
    return folder.with_name(folder.name + SUFFIX)


def proof_name(gate: Path | None) -> str:
    """Return the name to register under for now; empty: the worker's own."""
    try:
        return gate.read_text(encoding="utf-8").strip()[:_NAME_LENGTH] if gate else ""
    except OSError:
        return ""


async def open_when_proved(gate: Path, worker: Worker) -> None:
    """Register under the worker's own name once the file is gone."""
    while gate.exists():  # noqa: ASYNC110, ASYNC240 - a file in memory that root removes
        await asyncio.sleep(_EVERY_S)
    worker.take_calls()
