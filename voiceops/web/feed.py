"""The dashboard's feed: one process that reads the stack while somebody watches, and all who watch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from voiceops.model.dashboard import FeedLine, Row, SectionChange
from voiceops.web.child_environment import child_environment

log = logging.getLogger(__name__)

MOST_WATCHERS = 20
LINGER_S = 30.0
"""So long the process goes on when nobody watches any more: whoever loads the page again finds it running."""
_AGAIN_S = 2.0
_LONGEST_LINE = 64 * 1024 * 1024
_QUEUED = 200
"""Lines that a slow browser may lie behind; then it is sent away, and comes again for a whole state."""
OWN_SECTIONS = ("actions", "findings", "diagnosis", "feed")
"""Those of this process; the others are the feed's."""


class TooManyWatchersError(Exception):
    """As many watch as may."""


class DashboardFeed:
    """Keeps what the dashboard shows, and hands every change to those who watch."""

    def __init__(self, command: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._command = command
        self._clock = clock
        self._sections: dict[str, dict[str, msgspec.Raw]] = {}
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self._wanted_until = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self._queues)

    def warm(self) -> None:
        """Begin to read: somebody is about to watch."""
        self._wanted_until = self._clock() + LINGER_S
        if not self._closed and (self._reading is None or self._reading.done()):
            self._reading = asyncio.get_running_loop().create_task(self._read_while_wanted())

    @contextmanager
    def watching(self) -> Iterator[asyncio.Queue[bytes | None]]:
        """A queue of messages, the whole state first; None ends it. ``TooManyWatchersError`` beyond the limit."""
        if len(self._queues) >= MOST_WATCHERS:
            raise TooManyWatchersError
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED)
        state = {name: SectionChange(rows) for name, rows in self._sections.items()}
        queue.put_nowait(_message(FeedLine(time.time(), state, reset=True)))
        self._queues.add(queue)
        if self._closed:
            self._end(queue)
        try:
            self.warm()
            yield queue
        finally:
            self._queues.discard(queue)
            self._wanted_until = self._clock() + LINGER_S

    def put(self, section: str, rows: Mapping[str, Row], *, whole: bool = False) -> None:
        """Show rows of one of our own sections; ``whole``: those and no others."""
        known = self._sections.get(section, {})
        gone = [key for key in known if key not in rows] if whole else []
        change = SectionChange(
            {key: msgspec.Raw(msgspec.json.encode(row)) for key, row in rows.items()}, gone
        )
        self._take(FeedLine(time.time(), {section: change}))

    async def close(self) -> None:
        """End the process, and whoever watches."""
        self._closed = True
        for queue in list(self._queues):
            self._end(queue)
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _take(self, line: FeedLine) -> None:
        for name, change in line.sections.items():
            rows = self._sections.setdefault(name, {})
            rows.update(change.rows)
            for key in change.gone:
                rows.pop(key, None)
        message = _message(line)
        for queue in list(self._queues):
            if queue.qsize() >= _QUEUED - 1:
                self._end(queue)
            else:
                queue.put_nowait(message)

    def _end(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._queues.discard(queue)
        while queue.full():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _read_while_wanted(self) -> None:
        while self._queues or self._clock() < self._wanted_until:
            problem = await self._read()
            if problem:
                log.warning("the dashboard's feed ended")
                self.put("feed", {"feed": {"error": problem}})
                await asyncio.sleep(_AGAIN_S)
        self._forget()

    async def _read(self) -> str:
        """Take in lines until the process ends, which is said, or nobody wants it any more."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            env=child_environment(),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = asyncio.ensure_future(process.stderr.read())
        began = False
        try:
            async for line in process.stdout:
                if not began:
                    began = True
                    self._forget()
                    self.put("feed", {"feed": {"error": ""}})
                self._take(msgspec.json.decode(line, type=FeedLine))
                if not self._queues and self._clock() > self._wanted_until:
                    return ""
            last = (await said).decode(errors="replace").strip().splitlines()[-1:]
            return last[0].removeprefix("error: ") if last else "what reads the stack has ended"
        finally:
            said.cancel()
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _forget(self) -> None:
        """What an earlier process has said is no longer true."""
        gone = {
            name: SectionChange({}, list(rows))
            for name, rows in self._sections.items()
            if name not in OWN_SECTIONS and rows
        }
        if gone:
            self._take(FeedLine(time.time(), gone))


def _message(line: FeedLine) -> bytes:
    """One server-sent event; JSON has no line break."""
    return b"data: " + msgspec.json.encode(line) + b"\n\n"
