"""Shows on stderr how far a run of calls is: one moving line in a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from voiceops.calls.plan import lines_for
from voiceops.calls.text import describe, one_call
from voiceops.model.calls import CallPlan, CallResult
from voiceops.model.quoting import printable
from voiceops.util.terminal import columns, styled

_EVERY_S = 5.0


@contextmanager
def progress(
    plan: CallPlan, say: Callable[[str], None], *, quiet: bool = False
) -> Iterator[Callable[[CallResult], None]]:
    """Yields what to call with each finished call."""
    if quiet or (plan.count == 1 and not plan.duration_s):
        yield lambda _result: None
        return
    say(describe(plan, lines_for(plan)))
    shown = _Moving(plan) if styled(sys.stderr) else _Lines(plan, say)
    try:
        yield shown.took
    finally:
        shown.end()


class _Lines:
    """For logs and pipes: each failure, and how far it is every few seconds."""

    def __init__(self, plan: CallPlan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._done = self._ok = 0
        self._told_at = time.monotonic()

    def took(self, result: CallResult) -> None:
        self._done += 1
        self._ok += result.ok
        if not result.ok:
            self._say(f"call {result.id}: {one_call(result)}")
        if time.monotonic() - self._told_at >= _EVERY_S:
            self._told_at = time.monotonic()
            self._say(self.text())

    def text(self) -> str:
        of = "" if self._plan.duration_s else f" of {self._plan.count}"
        return f"{self._done}{of} calls done, {self._done - self._ok} failed"

    def end(self) -> None:
        return


class _Moving(_Lines):
    """For terminals: one line that is drawn over."""

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan, self._write_line)
        self._last_audio = ""

    def took(self, result: CallResult) -> None:
        super().took(result)
        if result.audio_s is not None:
            self._last_audio = f", last first audio {result.audio_s:.2f} s"
        self._told_at = time.monotonic()
        # A line that wraps could not be drawn over.
        text = f"{self.text()}{self._last_audio}"[: (columns(sys.stderr) or 80) - 1]
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()

    def _write_line(self, line: str) -> None:
        sys.stderr.write(f"\r\033[K{printable(line)}\n")

    def end(self) -> None:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
