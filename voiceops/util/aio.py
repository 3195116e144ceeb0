"""The one bridge from synchronous tasks to the event loop.

Invoke never awaits an ``async def`` task and still exits 0, so tasks are synchronous
and cross here.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


def run(main: Coroutine[object, object, T]) -> T:
    """Run ``main`` in a fresh event loop; Ctrl-C cancels it and lets it clean up."""
    import asyncio

    return asyncio.run(main)
