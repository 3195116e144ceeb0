"""The table of a start or stop that lives on a terminal."""

from __future__ import annotations

import threading
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from voiceops.cli import output
from voiceops.model.quoting import printable
from voiceops.util.terminal import ERROR, FAINT, OK, WARNING

_RICH_STYLES = {OK: "green", ERROR: "red", WARNING: "yellow", FAINT: "dim"}


class LiveBoard:
    """The services of a run, each with its state and how long it took."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, str, float, float | None]] = {}
        self._lock = threading.Lock()
        self._live: Live | None = None

    def show(self, service: str, state: str, words: str) -> None:
        with self._lock:
            now = time.monotonic()
            began = self._rows[service][2] if service in self._rows else now
            done = now if state in ("ready", "completed", "failed", "stopped") else None
            self._rows[service] = (state, words, began, done)
            if self._live is None:
                self._live = Live(
                    console=Console(stderr=True),
                    get_renderable=self._table,
                    refresh_per_second=8,
                    transient=True,
                )
                self._live.start()

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("service", "state", "seconds", ""):
            table.add_column(heading, justify="right" if heading == "seconds" else "left")
        for service, (state, words, began, done) in list(self._rows.items()):
            seconds = (done or time.monotonic()) - began
            table.add_row(
                Text(printable(service)),
                Text(state, style=_RICH_STYLES[output.STATES.get(state, WARNING)]),
                f"{seconds:.1f}",
                Text(printable(words), style="dim"),
            )
        return table

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
