"""Names the line that blocks the event loop, while it still blocks.

One call of ``time.sleep``, ``requests.get`` or a large numpy operation inside a coroutine
stops the audio of the call. A thread looks at the loop's stack as soon as its heartbeat
is late, so even a block that never ends is named.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType

log = logging.getLogger("voiceops.agentkit")

_LIBRARIES = tuple(
    os.path.join(path, "")
    for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
)


@dataclass(frozen=True)
class LoopBlock:
    """One time that the loop was blocked."""

    where: str
    """``file:line in function``: the innermost line that is neither standard library nor installed package."""
    blocked_s: float
    """How long so far, at the time of the report."""


class LoopWatch:
    """Watches the running loop until ``stop()``; also a context manager.

    ``on_block`` is called once per block from the watching thread, ``describe`` adds
    fields to the log line. Costs one timer and one wake-up per ``threshold_s / 4``.
    """

    def __init__(
        self,
        *,
        threshold_s: float = 0.5,
        describe: Callable[[], Mapping[str, object]] = dict,
        on_block: Callable[[LoopBlock], None] | None = None,
    ) -> None:
        self._threshold_s = threshold_s
        self._describe = describe
        self._on_block = on_block
        self._beat_at = 0.0
        self._loop_thread = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> LoopWatch:
        """Watch the loop that runs now; call it from a coroutine or callback."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._beat()
        self._thread = threading.Thread(target=self._watch, name="voiceops-loopwatch", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop watching. Safe to call twice, from any thread."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def __enter__(self) -> LoopWatch:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        if self._loop is not None and not self._stopped.is_set():
            self._timer = self._loop.call_later(self._threshold_s / 4, self._beat)

    def _watch(self) -> None:
        reported_beat = 0.0
        woke_at = time.monotonic()
        while not self._stopped.wait(self._threshold_s / 4):
            if self._loop is not None and self._loop.is_closed():
                return
            slept_s, woke_at = time.monotonic() - woke_at, time.monotonic()
            beat_at = self._beat_at
            blocked_s = woke_at - beat_at
            if blocked_s < self._threshold_s or beat_at == reported_beat:
                continue
            if slept_s >= self._threshold_s:
                # This thread was late too: the machine or the GIL stood still, and the
                # stack would blame an innocent line. Look again.
                continue
            reported_beat = beat_at
            frame = sys._current_frames().get(self._loop_thread)
            if frame is not None:
                self._report(LoopBlock(where=_culprit(frame), blocked_s=round(blocked_s, 3)))

    def _report(self, block: LoopBlock) -> None:
        log.warning(
            "event loop blocked",
            extra={"where": block.where, "blocked_s": block.blocked_s, **self._describe()},
        )
        if self._on_block is not None:
            self._on_block(block)


def _culprit(frame: FrameType) -> str:
    """The innermost frame of the user's own code, else the innermost of all."""
    innermost = frame
    current: FrameType | None = frame
    while current is not None:
        if not current.f_code.co_filename.startswith((*_LIBRARIES, "<frozen")):
            return _place(current)
        current = current.f_back
    return _place(innermost)


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
