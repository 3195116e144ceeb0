"""The stacks of the hosts of a deploy, over the connections that it has already."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from voiceops.deploy.fleet import HostRun
from voiceops.kinds.model import Declared
from voiceops.stack.stack import Stack


class HostStacks:
    """Makes the stack of one host after the other; the lock of a host is held by its deploy."""

    def __init__(
        self, rooms_memory: Path, progress: Callable[[str, str, str, str], None], say: Callable[[str], None]
    ) -> None:
        """``progress``: (host, service, state, words)."""
        self._rooms_memory = rooms_memory
        self._progress = progress
        self._say = say

    def of(self, run: HostRun, services: tuple[Declared, ...], other_node: str = "") -> Stack:
        """The stack of one host with these services; ``other_node`` takes the callers of its livekit-server."""
        # LiveKit's occupancy and asyncio with it: a deploy that changes nothing needs neither.
        from voiceops.stack.systemd.server import systemd_stack

        return systemd_stack(
            run.host,
            run.transport,
            outline=services,
            services=lambda: services,
            lock=lambda limit: nullcontext(),
            progress=lambda service, state, words: self._progress(run.name, service, state, words),
            say=self._say,
            rooms_memory=self._rooms_memory,
            other_node=other_node,
        )
