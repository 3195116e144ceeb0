"""A limit on log lines, so that a storm of them can't take the machine with it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("voiceops.agentkit")

LINES_PER_S = 500.0


class LogLimiter(logging.Filter):
    """A token bucket for a log handler: ``handler.addFilter(LogLimiter())``.

    Passes up to ``lines_per_s`` lines a second (and as many at once), drops the rest, and
    says in one line how many it dropped, at most once a second. Safe from any thread.
    """

    def __init__(
        self, lines_per_s: float = LINES_PER_S, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        if lines_per_s <= 0:
            raise ValueError("lines_per_s must be positive")
        self.dropped_total = 0
        self._rate = lines_per_s
        self._clock = clock
        self._tokens = lines_per_s
        self._filled_at = clock()
        self._dropped = 0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line may pass."""
        if getattr(record, "log_lines_dropped", None) is not None:
            return True
        with self._lock:
            now = self._clock()
            self._tokens = min(self._rate, self._tokens + (now - self._filled_at) * self._rate)
            self._filled_at = now
            if self._tokens >= 1.0:
                self._tokens -= 1.0
                return True
            self._dropped += 1
            self.dropped_total += 1
            if self._timer is None:
                # Its own thread: after a storm nobody may log for hours.
                self._timer = threading.Timer(1.0, self.report)
                self._timer.daemon = True
                self._timer.start()
            return False

    def report(self) -> None:
        """Say how many lines were dropped since the last report; nothing when none were."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if dropped:
            log.warning("log lines dropped", extra={"log_lines_dropped": dropped})
