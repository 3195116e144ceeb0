"""How start, stop, check-running and status look on a terminal, and in a file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from voiceops.model.quoting import printable

if TYPE_CHECKING:
    from rich.table import Table

    from voiceops.cli.command import Run
    from voiceops.commands.hosts import Outcomes
    from voiceops.model.settings import Host
    from voiceops.stack.model import Verdict
    from voiceops.stack.operations import Stack
    from voiceops.stack.results import Progress, Results

_STYLE = {
    "ready": "green",
    "failed": "red",
    "missing": "red",
    "duplicate": "red",
    "stray": "red",
    "stale": "red",
    "unresponsive": "red",
    "stopped": "dim",
}


@contextmanager
def live_progress(run: Run) -> Iterator[Progress]:
    """A table that lives on a terminal; plain lines, one per change, anywhere else; silent with --json."""
    if run.json:
        yield lambda service, state, words: None
    elif sys.stderr.isatty():
        board = _Board()
        try:
            yield board.show
        finally:
            board.close()
    else:
        yield lambda service, state, words: run.say(f"{service}: {state}" + (f" ({words})" if words else ""))


class _Board:
    """The live table; rich is imported with the first thing that happens, so a no-op is fast."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, str, float, float | None]] = {}
        self._lock = threading.Lock()
        self._live: Any = None

    def show(self, service: str, state: str, words: str) -> None:
        with self._lock:
            now = time.monotonic()
            began = self._rows[service][2] if service in self._rows else now
            done = now if state in ("ready", "failed", "stopped") else None
            self._rows[service] = (state, words, began, done)
            if self._live is None:
                from rich.console import Console
                from rich.live import Live

                self._live = Live(
                    console=Console(stderr=True),
                    get_renderable=self._table,
                    refresh_per_second=8,
                    transient=True,
                )
                self._live.start()

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("service", "state", "seconds", ""):
            table.add_column(heading, justify="right" if heading == "seconds" else "left")
        for service, (state, words, began, done) in list(self._rows.items()):
            seconds = (done or time.monotonic()) - began
            table.add_row(
                Text(printable(service)),
                Text(state, style=_STYLE.get(state, "yellow")),
                f"{seconds:.1f}",
                Text(printable(words), style="dim"),
            )
        return table

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()


def results_text(
    results: Mapping[str, Results], verb: str, verified: Mapping[str, Any] | None
) -> Callable[[], None]:
    """One line per service, then one that sums up."""

    def show() -> None:
        several = len(results) > 1
        rows = []
        for host, per_host in results.items():
            for name, result in per_host.items():
                took = f"{result.ready_s:.1f} s" if result.ready_s is not None else ""
                pid = f"pid {result.pid}" if result.pid else ""
                changed = result.action if result.changed else "ok"
                before = "was: " if result.ready_s is not None else ""
                detail = f"{before}{result.detail}" if result.changed else ""
                if result.draining:
                    detail += f"{'; ' if detail else ''}pid {', '.join(map(str, result.draining))} drains"
                rows.append(
                    ([host] if several else []) + [name, str(result.state), changed, pid, took, detail]
                )
        _print_rows(rows)
        changed_count = sum(result.changed for per_host in results.values() for result in per_host.values())
        print(f"{verb}: {changed_count} changed" if changed_count else f"{verb}: nothing to do")
        if verified is not None:
            print(f"verify: the agent answered, first audio after {verified.get('audio_s', 0):.2f} s")

    return show


def verdicts_text(found: Mapping[str, Mapping[str, Verdict]]) -> Callable[[], None]:
    """One line per service: name, state, pids, what is wrong."""

    def show() -> None:
        several = len(found) > 1
        rows = []
        for host, verdicts in found.items():
            for name, verdict in verdicts.items():
                pids = " ".join(map(str, verdict.pids))
                rows.append(([host] if several else []) + [name, str(verdict.state), pids, verdict.detail])
        _print_rows(rows)
        if not rows:
            print("no services are declared for this host")

    return show


def _print_rows(rows: list[list[str]]) -> None:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    colour = sys.stdout.isatty()
    codes = {"green": "32", "red": "31", "dim": "2"}
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if colour:
            cells = [
                f"\033[{codes[_STYLE[cell.strip()]]}m{cell}\033[0m" if cell.strip() in _STYLE else cell
                for cell in cells
            ]
        print("  ".join(cells).rstrip())


def status_data(run: Run) -> dict[str, Any]:
    """Services, releases, rooms and calls per host; a host that can't be asked says why."""
    done = status_of(run)
    errors = {name: {"error": error.as_json()} for name, error in done.errors.items()}
    return {"hosts": {**done.values, **errors}}


def status_of(run: Run) -> Outcomes[dict[str, Any]]:
    """What `inv status --json` prints for each host."""
    from voiceops.commands.hosts import on_stacks

    return on_stacks(run, _status)


def _status(_host: Host, stack: Stack) -> dict[str, Any]:
    from voiceops.model.states import ServiceState
    from voiceops.stack import operations

    observed = stack.backend.observe(stack.outline)
    services: dict[str, Any] = {}
    release = ""
    for name, verdict in operations.verdicts(stack, observed).items():
        one = verdict.instance
        services[name] = {
            "state": str(verdict.state),
            "pids": list(verdict.pids),
            "detail": verdict.detail,
            "uptime_s": round(one.age_s, 1) if one else None,
            "release": one.release if one else "",
            "calls": _sum_known([each.calls for each in observed[name].instances]) if name in observed else 0,
            "draining": [each.pid for each in observed[name].draining] if name in observed else [],
        }
        release = release or (one.release if one else "")
    ready = any(
        entry["state"] == ServiceState.READY and service.kind == "livekit"
        for service in stack.outline
        for entry in [services[service.name]]
    )
    rooms = stack.count_rooms() if ready else None
    server = any(service.kind == "livekit" for service in stack.outline)
    calls = _sum_known([service["calls"] for service in services.values()])
    return {"services": services, "release": release, "calls": calls, "rooms": rooms, "server": server}


def _sum_known(counts: Sequence[int | None]) -> int | None:
    """None when one of them is unknown: an agent that does not answer may have calls."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def show_status(data: Mapping[str, Any]) -> None:
    """A table per host on stdout."""
    from rich.console import Console

    console = Console()
    for table in _status_tables(data):
        console.print(table)


def _status_tables(data: Mapping[str, Any]) -> list[Table]:
    from rich.table import Table
    from rich.text import Text

    tables = []
    for host, seen in data["hosts"].items():
        if "error" in seen:
            failed = Text(printable(f"{host}: {seen['error']['message']}"))
            tables.append(Table(title=failed, title_justify="left", box=None))
            continue
        rooms = f", {_count(seen['rooms'])} rooms" if seen["server"] else ""
        release = f", release {seen['release']}" if seen["release"] else ""
        title = f"{host}: {_count(seen['calls'])} calls{rooms}{release}"
        table = Table(
            title=Text(printable(title)),
            title_justify="left",
            box=None,
            padding=(0, 2, 0, 0),
            title_style="bold",
        )
        for heading in ("service", "state", "pid", "uptime", "calls", "release", ""):
            table.add_column(heading, justify="right" if heading in ("uptime", "calls") else "left")
        for name, one in seen["services"].items():
            draining = f"pid {', '.join(map(str, one['draining']))} drains" if one["draining"] else ""
            table.add_row(
                Text(printable(name)),
                Text(one["state"], style=_STYLE.get(one["state"], "yellow")),
                " ".join(map(str, one["pids"])),
                _span(one["uptime_s"]),
                _count(one["calls"]),
                Text(printable(one["release"])),
                Text(printable("; ".join(filter(None, (one["detail"], draining))))),
            )
        tables.append(table)
    return tables


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02d}h"
    return f"{hours}:{minutes:02d}:{whole:02d}"


def watch_status(run: Run) -> None:
    """Draw the status every second until Ctrl-C; where there is no terminal, one table after the other."""
    from rich.console import Console, Group
    from rich.live import Live

    console = Console()
    try:
        if not console.is_terminal:
            while True:
                show_status(status_data(run))
                sys.stdout.flush()
                time.sleep(1.0)
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                live.update(Group(*_status_tables(status_data(run))), refresh=True)
                time.sleep(1.0)
    except KeyboardInterrupt:
        return
