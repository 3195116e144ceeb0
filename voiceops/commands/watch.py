"""`inv status --watch`: draw the state of the stack over one terminal, or print it again and again."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from contextlib import closing
from threading import Event

from voiceops.cli.command import CommandRun
from voiceops.cli.invocation import Invocation
from voiceops.cli.screen import Screen
from voiceops.commands.watch_sources import Reading, WatchSources, open_sources
from voiceops.commands.watch_view import BARS, PLAIN_BARS, WatchedHost, WatchedStack, watch_lines
from voiceops.util.terminal import redrawable
from voiceops.wiring.project import Project

TICK_S = 1.0
"""The clock and ages go on, also where nothing new was read."""
BLOCK_EVERY_S = 2.0
FIRST_BLOCK_S = 5.0
"""So long the first block waits until everything was read once."""


def watch_status(run: CommandRun) -> None:
    """Show the stack until Ctrl-C; on a terminal in place, else one block of plain lines after the other."""
    project = run.project  # its errors and notices come before anything is drawn
    bars = BARS if _encodes(BARS) else PLAIN_BARS
    try:
        if redrawable(sys.stdout):
            ended_by = _draw(project, run.invocation, bars)
        else:
            _print_blocks(project, run.invocation, bars)
            return
    except KeyboardInterrupt:
        return
    except OSError as error:
        if error.errno != errno.EIO:  # the terminal is gone, and with it whoever watched
            raise
        return
    if ended_by is not None:
        # As if nothing had caught it: who sent it sees that it was that signal.
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)


def _draw(project: Project, invocation: Invocation, bars: str) -> signal.Signals | None:
    with Screen() as screen, closing(open_sources(project, screen.wake)) as sources:
        going = True
        while going:
            width, height = screen.size
            lines = watch_lines(
                _seen(project, sources), width=width, height=height, bars=bars, command=invocation.command
            )
            screen.draw(lines)
            going = screen.wait(TICK_S)
    return screen.ended_by


def _print_blocks(project: Project, invocation: Invocation, bars: str) -> None:
    news = Event()
    with closing(open_sources(project, news.set)) as sources:
        ends_at = time.monotonic() + FIRST_BLOCK_S
        while not _all_read(seen := _seen(project, sources)) and time.monotonic() < ends_at:
            news.wait(0.2)
            news.clear()
        while True:
            lines = watch_lines(seen, width=None, height=None, bars=bars, command=invocation.command)
            text = "\n".join("".join(span.text for span in line).rstrip() for line in lines)
            sys.stdout.write(f"{text}\n\n")
            sys.stdout.flush()
            time.sleep(BLOCK_EVERY_S)
            seen = _seen(project, sources)


def _seen(project: Project, sources: WatchSources) -> WatchedStack:
    return WatchedStack(
        project=project.hosts[0].settings.project,
        hosts=[
            WatchedHost(
                name=one.host.name,
                services=one.services.last(),
                rooms=None if one.rooms is None else one.rooms.last(),
            )
            for one in sources.hosts
        ],
        history=sources.last_history(),
        now=time.time(),
    )


def _all_read(seen: WatchedStack) -> bool:
    """Whether each source has a value or an error."""
    readings = [one.services for one in seen.hosts] + [one.rooms for one in seen.hosts] + [seen.history]
    return all(one is None or one != Reading() for one in readings)


def _encodes(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
