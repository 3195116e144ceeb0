"""The screen that a command draws over: it is left as it was, however the command ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.projects import REPOSITORY
from tests.support.terminals import OpenTerminal

PROGRAM = """
import sys
from voiceops.cli.frame import Span
from voiceops.cli.screen import Screen
from voiceops.util.terminal import OK
with Screen() as screen:
    count, going = 0, True
    while going:
        count += 1
        columns, lines = screen.size
        screen.draw([(Span("still", OK),), (Span(f"{columns} x {lines}"),), (Span(f"drawing {count}"),)])
        if "raise" in sys.argv and count > 2:
            raise RuntimeError("broken")
        going = screen.wait(0.05)
if screen.ended_by:
    print("ended by", screen.ended_by.name)
"""


def opened(tmp_path: Path, *arguments: str, **variables: str) -> OpenTerminal:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | variables
    return OpenTerminal(
        [sys.executable, "-c", PROGRAM, *arguments],
        folder=tmp_path,
        environment=environment,
        columns=80,
        lines=24,
    )


def drawings(terminal: OpenTerminal) -> int:
    """How many have been shown; what was read at once may hold several."""
    counted = [row.removeprefix("drawing ") for row in terminal.rows if row.startswith("drawing ")]
    return int(counted[0]) if counted else 0


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[OpenTerminal]:
    with opened(tmp_path) as one:
        one.wait_for(lambda seen: drawings(seen) >= 3)
        yield one


def test_it_draws_in_place_and_writes_only_what_has_changed(terminal: OpenTerminal) -> None:
    assert terminal.rows[:2] == ["still", "80 x 24"]
    assert terminal.written.count(b"still") == 1
    assert terminal.written.count(b"\x1b[2J") == 1


def test_it_follows_a_change_of_size(terminal: OpenTerminal) -> None:
    terminal.resize(200, 50)
    terminal.wait_for(lambda seen: "200 x 50" in seen.rows and seen.written.count(b"still") == 2)


def test_q_ends_it_and_leaves_the_terminal_as_it_was(terminal: OpenTerminal) -> None:
    terminal.type("q")
    assert terminal.end() == 0
    assert terminal.restored


def test_ctrl_c_leaves_the_terminal_as_it_was(terminal: OpenTerminal) -> None:
    terminal.type("\x03")
    assert terminal.end() != 0  # the program above does not handle it
    assert b"KeyboardInterrupt" in terminal.written
    assert b"\x1b[?25h\x1b[?1049l" in terminal.written.partition(b"KeyboardInterrupt")[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_is_named_once_the_terminal_is_as_it_was(
    terminal: OpenTerminal, number: signal.Signals
) -> None:
    terminal.process.send_signal(number)
    assert terminal.end() == 0
    shown, _, after = terminal.written.rpartition(b"\x1b[?25h\x1b[?1049l")
    assert shown
    assert f"ended by {number.name}".encode() in after


def test_an_error_is_shown_on_the_first_screen(tmp_path: Path) -> None:
    with opened(tmp_path, "raise") as terminal:
        assert terminal.end() == 1
        shown, _, after = terminal.written.rpartition(b"\x1b[?25h\x1b[?1049l")
        assert shown
        assert b"RuntimeError: broken" in after


def test_it_is_drawn_anew_when_it_goes_on_after_a_stop(terminal: OpenTerminal) -> None:
    terminal.process.send_signal(signal.SIGSTOP)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.wait_for(lambda seen: seen.written.count(b"still") == 2)
    assert terminal.written.count(b"\x1b[?1049h") == 2


def test_without_colours_it_draws_in_place_all_the_same(tmp_path: Path) -> None:
    with opened(tmp_path, NO_COLOR="1") as terminal:
        terminal.wait_for(lambda seen: drawings(seen) >= 3)
        assert terminal.rows[0] == "still"
        assert b"\x1b[32m" not in terminal.written
        terminal.type("q")
        assert terminal.end() == 0
