"""Hear at once that a process has ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import ProcessKey


@contextmanager
def watching_exits(keys: Iterable[ProcessKey], ended: Callable[[ProcessKey], None]) -> Iterator[None]:
    """Call ``ended`` in the running event loop when one of these processes ends, or has ended already."""
    loop = asyncio.get_running_loop()
    descriptors: list[int] = []
    try:
        for key in keys:
            descriptor = processes.open_pidfd(key)
            if descriptor is None:
                ended(key)
                continue
            descriptors.append(descriptor)
            loop.add_reader(descriptor, ended, key)
        yield
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
            os.close(descriptor)
