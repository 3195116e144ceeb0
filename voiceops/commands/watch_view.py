"""How the live view of `inv status --watch` looks: services, incidents, calls, answer times, repairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voiceops.calls.stats import percentile
from voiceops.cli.frame import Line, Section, Span, fit, in_columns, line_width, shown_text
from voiceops.cli.output import STATES
from voiceops.commands.stack_view import draining_text, time_span
from voiceops.commands.watch_history import WatchedHistory
from voiceops.commands.watch_sources import Reading, WatchedServices
from voiceops.model.history import CallRecord, IncidentRecord, RepairRecord
from voiceops.model.rooms import Room
from voiceops.util.terminal import BOLD, COMMAND, ERROR, FAINT, OK, WARNING
from voiceops.util.words import counted

if TYPE_CHECKING:
    from voiceops.model.documents.stack import StatusService

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-~=+*#"
"""For a terminal whose encoding lacks the others."""
MISSED = "x"
"""A call that no agent answered."""
MOST_BARS = 180
FULL_BAR_S = 1.0
"""Answer times of up to so long are drawn on one scale, so that two good stacks look alike."""
WAITING_AFTER_S = 10.0
"""A join takes so long on a full machine."""
_TITLE = 10
_MEASURED = (6, 7)
"""Columns of services that hosts without accounting (cgroups) can't fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedHost:
    """What was read last of one host."""

    name: str
    services: Reading[WatchedServices]
    rooms: Reading[tuple[Room, ...]] | None
    """None: it has nothing to do with a LiveKit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedStack:
    """Everything that one drawing shows."""

    project: str
    hosts: Sequence[WatchedHost]
    history: Reading[WatchedHistory]
    now: float

    @property
    def several(self) -> bool:
        return len(self.hosts) > 1

    @property
    def incidents(self) -> list[IncidentRecord]:
        """Those that go on, the oldest first, whoever knows of them."""
        known = {one.id: one for one in self.history.value.incidents} if self.history.value else {}
        for host in self.hosts:
            known |= {one.id: one for one in (host.services.value.incidents if host.services.value else ())}
        return sorted(known.values(), key=lambda one: one.began_at)


def watch_lines(
    seen: WatchedStack,
    *,
    width: int | None,
    height: int | None,
    bars: str = BARS,
    command: Callable[[str], str] = str,
) -> list[Line]:
    """Return the lines of the view, at most ``height`` of at most ``width`` columns; None: no limit.

    ``command`` writes a fix as it has to be typed here.
    """
    sections = [
        Section(head=_header(seen, width)),
        *_incidents(seen, command),
        _services(seen),
        _calls(seen),
        _answers(seen, width, bars),
        _repairs(seen),
    ]
    return fit(sections, width=width, height=height)


def _header(seen: WatchedStack, width: int | None) -> Line:
    states = [
        service["state"]
        for host in seen.hosts
        if host.services.value
        for service in host.services.value.services.values()
    ]
    ready = sum(state in ("ready", "completed") for state in states)
    words = [Span(f"{ready} of {len(states)} ready", OK if ready == len(states) else ERROR)]
    if not states:
        words = [Span("reading" if any(_unread(host) for host in seen.hosts) else "no services", FAINT)]
    open_count = len(seen.incidents)
    words += [Span(counted(open_count, "open incident"), ERROR)] if open_count else []
    counts = [one.services.value.call_count for one in seen.hosts if one.services.value]
    calls = None if None in counts or not counts else sum(filter(None, counts))
    words.append(Span(counted(calls, "call")))
    if any(host.rooms is not None for host in seen.hosts):
        listed = [host.rooms.value for host in seen.hosts if host.rooms is not None]
        known = [rooms for rooms in listed if rooms is not None]
        number = sum(map(len, known)) if len(known) == len(listed) else None
        words.append(Span(counted(number, "room"), "" if number is not None else WARNING))
    history = seen.history.value
    if history and history.checks:
        words.append(Span(f"checked {_ago(seen.now - history.checks[-1].at)} ago"))
    clock = Span(time.strftime("%H:%M:%S", time.localtime(seen.now)), FAINT)
    line: Line = (Span(f"{shown_text(seen.project)}: ", BOLD),)
    for number, word in enumerate(words):
        longer: Line = (*line, Span(", " if number else ""), word)
        if width is not None and line_width(longer) + 2 + len(clock.text) > width:
            break
        line = longer
    gap = 2 if width is None else max(2, width - line_width(line) - len(clock.text))
    return (*line, Span(" " * gap), clock)


def _unread(host: WatchedHost) -> bool:
    return host.services.value is None and not host.services.error


def _ago(seconds: float) -> str:
    return f"{max(0, int(seconds))} s" if seconds < 120 else time_span(seconds)


def _incidents(seen: WatchedStack, command: Callable[[str], str]) -> list[Section]:
    """None while all is well: the room goes to the others."""
    rows = [
        (
            Span("  " + (time_span(max(0.0, seen.now - one.began_at)))),
            Span(shown_text(one.host) if seen.several else ""),
            Span(shown_text(one.sentence or f"{one.subject}: {one.cause}"), ERROR),
            Span(f"fix: {shown_text(command(one.fix))}" if one.fix else "", COMMAND),
        )
        for one in seen.incidents
    ]
    if not rows:
        return []
    return [Section(head=(Span("open incidents", BOLD),), rows=in_columns(rows), rank=1, least=3)]


def _services(seen: WatchedStack) -> Section:
    headings = ("service", "state", "pid", "uptime", "restarts", "cpu", "memory", "calls", "")
    rows: list[Sequence[Span]] = [
        [Span("host" if seen.several else "", BOLD), *(Span(heading, BOLD) for heading in headings)]
    ]
    problems: list[Line] = []
    for host in seen.hosts:
        if host.services.error:
            problems.append(
                (Span(f"{shown_text(host.name)}: "), Span(shown_text(host.services.error), ERROR))
            )
        elif host.services.value is None:
            problems.append((Span(f"{shown_text(host.name)}: reading", FAINT),))
        else:
            for name, one in host.services.value.services.items():
                own = Span(shown_text(host.name) if seen.several else "")
                rows.append([own, *_service_row(name, one, seen.now - host.services.value.at)])
    measured = [number for number in _MEASURED if any(row[number].text for row in rows[1:])]
    shown = [number for number in range(len(rows[0])) if number not in _MEASURED or number in measured]
    head, *lines = in_columns(
        [[row[number] for number in shown] for row in rows],
        right=tuple(index for index, number in enumerate(shown) if number in (4, 5, *_MEASURED, 8)),
    )
    return Section(head=head, rows=[*problems, *lines], rank=1, least=8)


def _service_row(name: str, one: StatusService, since_s: float) -> list[Span]:
    uptime_s = None if one["uptime_s"] is None else one["uptime_s"] + max(0.0, since_s)
    texts = [
        "" if one["cpu_share"] is None else f"{one['cpu_share'] * 100:.0f} %",
        "" if one["memory_bytes"] is None else f"{one['memory_bytes'] / 1e6:.0f} MB",
        "?" if one["call_count"] is None else str(one["call_count"]),
        shown_text("; ".join(filter(None, (one["detail"], *map(draining_text, one["draining_runs"]))))),
    ]
    return [
        Span(shown_text(name)),
        Span(str(one["state"]), STATES.get(one["state"], "")),
        Span(" ".join(map(str, one["pids"]))),
        Span(time_span(uptime_s)),
        Span(str(one["restart_count"])),
        *map(Span, texts),
    ]


def _calls(seen: WatchedStack) -> Section:
    """The rooms with somebody in them, those without an agent first."""
    rows: list[tuple[bool, float, Sequence[Span]]] = []
    problems: list[Line] = []
    agents: dict[str, str] = {}
    for host in seen.hosts:
        if host.services.value:
            agents |= host.services.value.agents
    known = all(host.services.value is not None for host in seen.hosts) and any(
        host.services.value.knows_agents for host in seen.hosts if host.services.value
    )
    for host in seen.hosts:
        if host.rooms is None:
            continue
        if host.rooms.error:
            problems.append((Span("rooms unknown: ", WARNING), Span(shown_text(host.rooms.error))))
        for room in host.rooms.value or ():
            if not room.num_participants and room.name not in agents:
                continue
            age_s = max(0.0, seen.now - room.created_at) if room.created_at else None
            served = _served(agents.get(room.name), age_s, known=known)
            own = Span(shown_text(host.name) if seen.several else "")
            cells = [
                own,
                Span(shown_text(room.name)),
                Span(time_span(age_s)),
                Span(str(room.num_participants)),
                served,
            ]
            rows.append((served.style != ERROR, room.created_at, cells))
    headings = ("host" if seen.several else "", "call in room", "since", "people", "agent")
    table = [[Span(heading, BOLD) for heading in headings], *(row for _, _, row in sorted(rows, key=_first))]
    head, *lines = in_columns(table, right=(2, 3))
    if not rows and problems:
        head, *problems = problems
    elif not rows:
        unread = any(host.rooms is not None and host.rooms.value is None for host in seen.hosts)
        head = (Span("reading calls" if unread else "no calls", FAINT),)
    return Section(head=head, rows=[*problems, *lines], rank=3, least=4)


def _first(row: tuple[bool, float, Sequence[Span]]) -> tuple[bool, float]:
    return row[:2]


def _served(agent: str | None, age_s: float | None, *, known: bool) -> Span:
    if agent is not None:
        return Span(shown_text(agent), OK)
    if not known:
        return Span("unknown", WARNING)
    if age_s is not None and age_s < WAITING_AFTER_S:
        return Span("none yet", WARNING)
    return Span("none", ERROR)


def _answers(seen: WatchedStack, width: int | None, bars: str) -> Section:
    title = Span("answers".ljust(_TITLE), BOLD)
    history = seen.history
    if history.value is None:
        why = f"unknown: {shown_text(history.error)}" if history.error else "reading"
        return Section(head=(title, Span(why, WARNING if history.error else FAINT)), rank=2)
    calls = history.value.calls
    # One of several histories could not be read.
    missing = [(Span(" " * _TITLE), Span(f"unknown: {shown_text(history.error)}", WARNING))]
    rows: list[Line] = [*missing] if history.error else []
    if not calls:
        return Section(head=(title, Span("no calls in the last 24 h", FAINT)), rows=rows, rank=2)
    times = sorted(one.answer_s for one in calls if one.answer_s is not None)
    missed = sum(one.answer_s is None or one.outcome not in (None, "answered") for one in calls)
    scale_s = max(FULL_BAR_S, max(times, default=0.0))
    words = [f"{len(calls) - missed} of {counted(len(calls), 'call')} good"]
    if times:
        words.append(f"p50 {percentile(times, 50):.2f} s, p95 {percentile(times, 95):.2f} s")
    room = MOST_BARS if width is None else min(MOST_BARS, width - _TITLE)
    row = (Span(" " * _TITLE), *_bars(calls[-room:] if room > 0 else (), scale_s, bars))
    head = (title, Span(f"{', '.join(words)}, full bar {scale_s:.1f} s"))
    return Section(head=head, rows=[row, *rows], rank=2)


def _bars(calls: Sequence[CallRecord], scale_s: float, bars: str) -> list[Span]:
    """One character for each call, the oldest first."""
    return [
        Span(MISSED, ERROR)
        if one.answer_s is None
        else Span(
            bars[min(len(bars) - 1, int(one.answer_s / scale_s * len(bars)))],
            ERROR if one.outcome not in (None, "answered") else OK,
        )
        for one in calls
    ]


def _repairs(seen: WatchedStack) -> Section:
    history = seen.history.value
    repairs: Sequence[RepairRecord] = history.repairs if history else ()
    if not repairs:
        missing = "repairs unknown" if seen.history.error else "reading repairs"
        words = "no repairs in the last 24 h" if history else missing
        return Section(head=(Span(words, FAINT),), rank=5)
    headings = ("repaired", "host" if seen.several else "", "what", "result", "took", "why")
    rows: list[Sequence[Span]] = [[Span(heading, BOLD) for heading in headings]]
    for one in reversed(repairs):
        rows.append(
            [
                Span(time.strftime("%H:%M:%S", time.localtime(one.at))),
                Span(shown_text(one.host) if seen.several else ""),
                Span(shown_text(" ".join(filter(None, (one.action, one.subject))))),
                Span("ok", OK) if one.ok else Span("failed", ERROR),
                Span(f"{one.took_s:.1f} s"),
                Span(shown_text(one.error or one.reason)),
            ]
        )
    head, *lines = in_columns(rows, right=(4,))
    return Section(head=head, rows=lines, rank=4, least=3)
