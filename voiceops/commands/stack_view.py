"""How start, stop, check-running and status look on a terminal, and in a file."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from voiceops.cli import output
from voiceops.cli.command import CommandRun
from voiceops.model.quoting import printable
from voiceops.stack.model import ServiceVerdict
from voiceops.stack.results import Progress, Results
from voiceops.util.terminal import styled
from voiceops.util.words import counted

if TYPE_CHECKING:
    from voiceops.commands.live_board import LiveBoard
    from voiceops.model.documents.stack import DrainingRun


_DONE = {"keep": "kept", "start": "started", "restart": "restarted", "overlap": "replaced", "stop": "stopped"}


@contextmanager
def live_progress(run: CommandRun) -> Iterator[Progress]:
    """A table that lives on a terminal; plain lines, one per change, anywhere else; silent with --json."""
    if run.json:
        yield lambda service, state, words: None
    elif styled(sys.stderr):
        board = _LateBoard()
        try:
            yield board.show
        finally:
            board.close()
    else:
        yield lambda service, state, words: run.say(f"{service}: {state}{f' ({words})' if words else ''}")


class _LateBoard:
    """The live table, imported with the first thing that happens: a no-op needs no rich."""

    def __init__(self) -> None:
        self._board: LiveBoard | None = None
        self._lock = threading.Lock()

    def show(self, service: str, state: str, words: str) -> None:
        with self._lock:
            if self._board is None:
                from voiceops.commands.live_board import LiveBoard

                self._board = LiveBoard()
        self._board.show(service, state, words)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def results_text(
    results: Mapping[str, Results], verb: str, verified: Mapping[str, object] | None, *, agents: bool = True
) -> Callable[[], str]:
    """One line per service, then one that sums up and the next step; ``agents``: there are some to call."""

    def show() -> str:
        several = len(results) > 1
        rows = []
        for host, per_host in results.items():
            for name, result in per_host.items():
                took = f"{result.ready_s:.1f} s" if result.ready_s is not None else ""
                pid = f"pid {result.pid}" if result.pid else ""
                changed = _DONE.get(result.action, result.action) if result.changed else "ok"
                changed = "" if changed == str(result.state) else changed
                detail = result.detail if result.changed else ""
                if detail and result.ready_s is not None:
                    detail = f"reason: {detail}"
                if result.draining:
                    detail += f"{'; ' if detail else ''}pid {', '.join(map(str, result.draining))} drains"
                rows.append(
                    ([host] if several else []) + [name, str(result.state), changed, pid, took, detail]
                )
        output.show_table(rows)
        changed_count = sum(result.changed for per_host in results.values() for result in per_host.values())
        done = f"{counted(changed_count, 'service')} changed" if changed_count else "nothing to do"
        lines = [
            f"warning: {name} {result.warning}"
            for per_host in results.values()
            for name, result in per_host.items()
            if result.warning
        ]
        lines += [f"{verb}: {done}"]
        if verified is not None:
            lines.append(f"verify: the agent answered, first audio after {verified.get('audio_s', 0):.2f} s")
        lines += [f"next: {_next_step(results, verb, may_call=agents and verified is None)}"]
        return "\n".join(lines)

    return show


def _next_step(results: Mapping[str, Results], verb: str, *, may_call: bool) -> str:
    """The command that usually follows."""
    if verb == "stop":
        return "inv start"
    if any(result.warning for per_host in results.values() for result in per_host.values()):
        return "inv why"
    running = {name for per_host in results.values() for name in per_host}
    return "inv call" if may_call and running else "inv status"


def verdicts_text(found: Mapping[str, Mapping[str, ServiceVerdict]]) -> Callable[[], str]:
    """One line per service: name, state, pids, what is wrong."""

    def show() -> str:
        several = len(found) > 1
        rows = []
        for host, verdicts in found.items():
            for name, verdict in verdicts.items():
                pids = " ".join(map(str, verdict.pids))
                rows.append(([host] if several else []) + [name, str(verdict.state), pids, verdict.detail])
        output.show_table(rows)
        return "" if rows else "no services are declared for this host"

    return show


def show_status(data: Mapping[str, Any]) -> str:
    """A table per host on stdout; returns what follows the last one."""
    for host, seen in data["hosts"].items():
        if "error" in seen:
            output.show(f"error: {printable(host)}: {printable(seen['error']['message'])}")
            continue
        told = [counted(seen["call_count"], "call")]
        told += [_rooms(seen)] if seen["url"] else []
        told += [f"release {seen['release']}"] if seen["release"] else []
        told += [seen["url"]] if seen["url"] else []
        output.show(f"{printable(host)}: {', '.join(told)}")
        output.show_table(
            [_status_row(name, one) for name, one in seen["services"].items()],
            headings=("service", "state", "pid", "uptime", "restarts", "cpu", "memory", "calls", ""),
            right=(3, 4, 5, 6, 7),
        )
        for call in seen["live_calls"]:
            output.show(_live_call_text(call))
    return ""


def _rooms(seen: Mapping[str, Any]) -> str:
    """``3 rooms``; where nobody could count them, which service's line says why."""
    if seen["room_count"] is not None:
        return counted(seen["room_count"], "room")
    return "rooms unknown, see below"


def _status_row(name: str, one: Mapping[str, Any]) -> list[str]:
    return [
        name,
        one["state"],
        " ".join(map(str, one["pids"])),
        time_span(one["uptime_s"]),
        str(one["restart_count"]),
        "" if one["cpu_share"] is None else f"{one['cpu_share'] * 100:.0f} %",
        "" if one["memory_bytes"] is None else f"{one['memory_bytes'] / 1e6:.0f} MB",
        "?" if one["call_count"] is None else str(one["call_count"]),
        "; ".join(filter(None, (one["detail"], *map(draining_text, one["draining_runs"])))),
    ]


def draining_text(run: DrainingRun) -> str:
    """``pid 4242 drains: 2 calls, up 3 min``."""
    calls = "calls unknown" if run["call_count"] is None else counted(run["call_count"], "call")
    return f"pid {run['pid']} drains: {calls}, up {time_span(run['uptime_s'])}"


def _live_call_text(call: Mapping[str, Any]) -> str:
    persons, agents = ", ".join(call["persons"]), ", ".join(call["agent_identities"])
    since = f" since {call['joined_at']} ({time_span(call['age_s'])})" if call["joined_at"] else ""
    served = f"with {agents}" if agents else "without an agent"
    return f"in a call: {printable(persons)} in room {printable(call['room'])}{since}, {printable(served)}"


def time_span(seconds: float | None) -> str:
    """``0:01:05``, ``2d 03h``; empty for a time that is not known."""
    if seconds is None:
        return ""
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02d}h"
    return f"{hours}:{minutes:02d}:{whole:02d}"
