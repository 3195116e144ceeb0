"""One terminal that a command draws over, again and again; whatever ends the command, it is left as it was.

The second screen of the terminal is used, so what stood there comes back. Only lines that have changed are written,
all of them at once. ``q`` and signals end the view; Ctrl-Z stops it, and it is drawn anew when it goes on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import TextIO

from voiceops.cli.frame import Line
from voiceops.util.terminal import paint, styled

_ENTER = "\033[?1049h\033[?25l"
_LEAVE = "\033[?25h\033[?1049l"
_CLEAR = "\033[2J"
_FATAL = (signal.SIGTERM, signal.SIGHUP)


class Screen:
    """A terminal in the hands of one command; use it in ``with``, in the main thread."""

    def __init__(self, stream: TextIO | None = None, keyboard: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        keyboard = keyboard or sys.stdin
        self._output = self._stream.fileno()
        self._keyboard = keyboard.fileno() if keyboard.isatty() else None
        self._colour = styled(self._stream)
        self._mode = None if self._keyboard is None else termios.tcgetattr(self._keyboard)
        """How the terminal treats what is typed, as we have found it."""
        self._drawn: list[str] | None = None
        """What stands on the screen; None: something else."""
        self._drawn_size = (0, 0)
        self._undo = contextlib.ExitStack()
        """Brings back the handlers of signals."""
        self._reader = self._writer = -1
        self._wakeup = -1
        self._quit = False
        self.ended_by: signal.Signals | None = None
        """The signal that asked for the end."""

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        try:
            size = os.get_terminal_size(self._output)
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def __enter__(self) -> Screen:
        self._stream.flush()
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        try:
            for number in _FATAL:
                self._handle(number, self._end)
            # It ends the wait; the next drawing sees that the size is another one.
            self._handle(signal.SIGWINCH, lambda number, frame: None)
            self._handle(signal.SIGCONT, lambda number, frame: self._enter())
            self._handle(signal.SIGTSTP, self._suspend)
            self._enter()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines, as many as there is room for; what has not changed is not written."""
        size = self.size
        text = [self._text(line) for line in lines[: size[1]]]
        written: list[str] = []
        if self._drawn is None or size != self._drawn_size:
            self._drawn = []
            written.append(_CLEAR)
        before = self._drawn
        for row in range(max(len(text), len(before))):
            new = text[row] if row < len(text) else ""
            if new != (before[row] if row < len(before) else ""):
                written.append(f"\033[{row + 1};1H\033[2K{new}")
        self._drawn, self._drawn_size = text, size
        if written:
            self._write("".join(written))

    def wait(self, timeout_s: float) -> bool:
        """Wait until the time is over or something has happened; False when the view is to end."""
        watched = [self._reader] if self._keyboard is None else [self._reader, self._keyboard]
        ready, _, _ = select.select(watched, [], [], max(0.0, timeout_s))
        if self._reader in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)
        if self._keyboard in ready:
            typed = os.read(self._keyboard, 1024)
            # Nothing: the terminal is gone.
            self._quit = self._quit or not typed or b"q" in typed
        return not self._quit and self.ended_by is None

    def wake(self) -> None:
        """End the ``wait`` that is going on; for other threads."""
        with contextlib.suppress(OSError):  # it is full, or closed: then nobody waits
            os.write(self._writer, b"\0")

    def _text(self, line: Line) -> str:
        if not self._colour:
            return "".join(span.text for span in line).rstrip()
        return "".join(paint(span.text, span.style) for span in line).rstrip()

    def _write(self, text: str) -> None:
        data = text.encode(self._stream.encoding or "utf-8", errors="replace")
        while data:
            data = data[os.write(self._output, data) :]

    def _handle(self, number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> None:
        self._undo.callback(signal.signal, number, signal.signal(number, handler))

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ended_by = signal.Signals(number)

    def _forget(self) -> None:
        self._drawn = None

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: give the terminal back while we are stopped."""
        self._leave()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)
        self._enter()

    def _enter(self) -> None:
        if self._keyboard is not None:
            mode = termios.tcgetattr(self._keyboard)
            # What is typed neither shows nor waits for the end of a line; Ctrl-C and Ctrl-Z stay signals.
            mode[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(self._keyboard, termios.TCSANOW, mode)
        self._write(_ENTER)
        self._forget()

    def _leave(self) -> None:
        with contextlib.suppress(OSError, termios.error):  # the terminal is gone
            self._write(_LEAVE)
            if self._mode is not None and self._keyboard is not None:
                termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, self._mode)

    def _close(self) -> None:
        self._leave()
        self._undo.close()
        signal.set_wakeup_fd(self._wakeup)
        writer, self._writer = self._writer, -1
        os.close(self._reader)
        os.close(writer)
