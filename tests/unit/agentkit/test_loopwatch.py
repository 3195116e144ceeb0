"""The line that blocks the loop is named."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from voiceops.agentkit import LoopWatch
from voiceops.agentkit.loopwatch import LoopBlock


async def test_a_blocking_call_is_named_by_file_line_and_function_while_it_blocks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = threading.Event()
    blocks: list[LoopBlock] = []

    def on_block(block: LoopBlock) -> None:
        blocks.append(block)
        seen.set()

    with (
        caplog.at_level(logging.WARNING),
        LoopWatch(threshold_s=0.1, on_block=on_block, describe=lambda: {"phase": "session"}),
    ):
        await asyncio.sleep(0)
        seen.wait(10)  # blocks the loop until the watch has named this very line
        await asyncio.sleep(0)

    assert len(blocks) == 1
    assert f"{__file__}:" in blocks[0].where
    assert "test_a_blocking_call_is_named" in blocks[0].where
    line = next(record for record in caplog.records if record.getMessage() == "event loop blocked")
    assert vars(line)["phase"] == "session"


async def test_a_loop_that_only_waits_is_not_reported() -> None:
    blocks: list[LoopBlock] = []
    with LoopWatch(threshold_s=2.0, on_block=blocks.append):
        await asyncio.sleep(0.2)

    assert blocks == []


async def test_stop_ends_the_thread_and_may_be_called_twice() -> None:
    watch = LoopWatch(threshold_s=0.05).start()
    watch.stop()
    watch.stop()
    ends_at = time.monotonic() + 10
    while any(thread.name == "voiceops-loopwatch" for thread in threading.enumerate()):
        assert time.monotonic() < ends_at
        await asyncio.sleep(0.01)
