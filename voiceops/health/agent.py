"""What an agent says of itself: agentkit's ``GET /health`` on its unix socket."""

from __future__ import annotations

from pathlib import Path
from typing import Union

import msgspec

from voiceops.adapters import http
from voiceops.errors import UnreachableError


class AgentHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The answer; fields that agentkit adds later are ignored."""

    registered: bool
    draining: bool
    calls: int = 0
    rooms: list[str] = []
    load: float = 0.0
    load_limit: Union[float, None] = None
    """The load from which it takes no more calls; None: whatever the load."""
    refused_for_load: int = 0
    """Calls it was offered and refused for that."""
    agent_name: Union[str, None] = None
    """The name that it has registered; None: an older agentkit does not say."""
    worker_id: str = ""
    pid: int = 0
    max_jobs: Union[int, None] = None
    uptime_s: float = 0.0

    @property
    def full(self) -> bool:
        """It works, and takes no more calls than it has."""
        return self.max_jobs is not None and self.calls >= self.max_jobs


_decoder = msgspec.json.Decoder(AgentHealth)
"""Made at import: see ``model.decoding``, agents are asked side by side."""


def read_health(socket: Path, *, timeout_s: float = 2.0) -> AgentHealth | None:
    """The agent's answer, 200 or 503 alike; None when there is none, or none that makes sense."""
    try:
        answer = http.get_unix(socket, "/health", timeout_s=timeout_s)
        return _decoder.decode(answer.body)
    except (UnreachableError, msgspec.DecodeError):
        return None
