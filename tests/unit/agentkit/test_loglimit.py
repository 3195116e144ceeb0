"""A storm of log lines is cut, and counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from voiceops.agentkit import LogLimiter


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logging.getLogger("voiceops").addHandler(handler)
    logging.getLogger("voiceops").setLevel(logging.INFO)
    yield handler
    logging.getLogger("voiceops").removeHandler(handler)


def test_lines_over_the_rate_are_dropped_and_the_drop_is_reported_once(lines: Lines) -> None:
    now = 100.0
    limiter = LogLimiter(500, clock=lambda: now)
    lines.addFilter(limiter)
    log = logging.getLogger("voiceops.storm")

    for _ in range(1200):
        log.info("again")
    assert len(lines.records) == 500

    limiter.report()
    limiter.report()
    assert [getattr(record, "log_lines_dropped", None) for record in lines.records[500:]] == [700]
    assert limiter.dropped_total == 700


def test_the_bucket_fills_again_with_time(lines: Lines) -> None:
    now = [0.0]
    limiter = LogLimiter(10, clock=lambda: now[0])
    lines.addFilter(limiter)
    log = logging.getLogger("voiceops.storm")
    for _ in range(20):
        log.info("first")

    now[0] = 0.5
    for _ in range(20):
        log.info("second")
    limiter.report()

    assert [record.getMessage() for record in lines.records].count("second") == 5


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError):
        LogLimiter(0)
