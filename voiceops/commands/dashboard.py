"""``python -m voiceops.commands.dashboard INVENTORY [HOSTS]``: the feed of the dashboard, a line of JSON for each change.

The service of kind web runs it while somebody watches. It reads as `inv status --watch` does, and more often: what
happens is on the screen within a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from threading import Event

import msgspec

from voiceops.commands.watch_history import WatchedHistory
from voiceops.commands.watch_sources import (
    HostReaders,
    Reading,
    WatchedServices,
    WatchPace,
    WatchSources,
    open_sources,
)
from voiceops.errors import VoiceopsError
from voiceops.model.dashboard import FeedLine, Row, Rows, changes
from voiceops.model.findings import steps_for_host
from voiceops.model.rooms import Room
from voiceops.wiring.project import Project

PACE = WatchPace(
    every_s=0.35, services_share=0.15, other_share=0.1, ended_incidents=300, host_history_every_s=10.0
)
HEARTBEAT_S = 2.0
_TOGETHER_S = 0.03
"""What is read at the same time goes in one line."""
_STARTED_WITHIN_S = 2.0
"""An uptime is rounded: a start that moves by less is the same one."""


def main(inventory: str, hosts: str = "") -> int:
    """Print lines until nobody reads them; the exit code of the error that prevents it."""
    try:
        project = Project.load(inventory=inventory, host=hosts)
        with closing(Feed(project, acts_on=host_arguments(project, hosts))) as feed:
            while True:
                sys.stdout.buffer.write(msgspec.json.encode(feed.next_line()) + b"\n")
                sys.stdout.buffer.flush()
    except VoiceopsError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    except (BrokenPipeError, KeyboardInterrupt):
        return 0


class Feed:
    """Reads the project's hosts, and says what has changed."""

    def __init__(
        self, project: Project, pace: WatchPace = PACE, *, acts_on: Mapping[str, str] | None = None
    ) -> None:
        """``acts_on``: the hosts that commands have to name, with how; without them they mean this machine."""
        self._news = Event()
        self._project = project.hosts[0].settings.project
        self._acts_on = acts_on or {}
        self._sources = open_sources(project, self._news.set, pace)
        self._shown: dict[str, Rows] = {}

    def next_line(self) -> FeedLine:
        """Wait for a change or for the next sign of life."""
        if self._news.wait(HEARTBEAT_S):
            time.sleep(_TOGETHER_S)
        self._news.clear()
        fresh = sections(self._project, self._sources, self._shown.get("services", {}), self._acts_on)
        changed = changes(self._shown, fresh)
        self._shown = fresh
        return FeedLine(time.time(), changed)

    def close(self) -> None:
        """End the threads that read; safe to call again."""
        self._sources.close()


def host_arguments(project: Project, hosts: str) -> dict[str, str]:
    """Return the selected hosts with what ``--host`` takes for each: a host of no inventory has a user and a port."""
    named = {
        project.configuration.select(host=text)[0].name: text for text in hosts.split(",") if text.strip()
    }
    return {host.name: named.get(host.name, host.name) for host in project.hosts} if named else {}


def sections(
    project: str, sources: WatchSources, known: Mapping[str, Row], acts_on: Mapping[str, str]
) -> dict[str, Rows]:
    """Return all that is shown; ``known``: the services as they were shown last."""
    hosts: Rows = {}
    services: Rows = {}
    rooms: Rows = {}
    remembered: Rows = {}
    for one in sources.hosts:
        name = one.host.name
        seen = one.services.last()
        listed = one.rooms.last() if one.rooms else None
        hosts[name] = _host_row(one, seen, listed)
        if seen.value:
            services |= service_rows(name, seen.value, known)
            remembered |= {each.id: msgspec.structs.asdict(each) for each in seen.value.incidents}
        if listed:
            rooms |= room_rows(name, listed.value or (), seen.value.agents if seen.value else {})
    history = sources.last_history()
    records = history.value or WatchedHistory()
    return {
        "stack": {"stack": _stack_row(project, history) | {"acts_on": acts_on}},
        "hosts": hosts,
        "services": services,
        "rooms": rooms,
        "calls": _records(records.calls),
        # The monitor's own memory is newer than what it has recorded.
        "incidents": remembered | _with_hosts(_records(records.incidents), acts_on),
        "repairs": _records(records.repairs),
    }


def _stack_row(project: str, history: Reading[WatchedHistory]) -> Row:
    checks = history.value.checks if history.value else ()
    return {
        "project": project,
        "history_read": history.value is not None,
        "history_error": history.error,
        "checked_at": checks[-1].at if checks else None,
    }


def _host_row(
    one: HostReaders, seen: Reading[WatchedServices], listed: Reading[tuple[Room, ...]] | None
) -> Row:
    return {
        "services_read": seen.value is not None,
        "services_error": seen.error,
        "has_rooms": one.rooms is not None,
        "rooms_read": listed is not None and listed.value is not None,
        "rooms_error": listed.error if listed else "",
        "call_count": seen.value.call_count if seen.value else None,
        "knows_agents": seen.value is not None and seen.value.knows_agents,
    }


def service_rows(host: str, seen: WatchedServices, known: Mapping[str, Row]) -> Rows:
    """Return the services of a host; when one began stays as it was said, though uptimes are rounded."""
    rows: Rows = {}
    for name, one in seen.services.items():
        key = f"{host}/{name}"
        row: Row = {"host": host, "name": name, **one}
        uptime_s = one["uptime_s"]
        del row["uptime_s"], row["release"]
        row["started_at"] = _started(None if uptime_s is None else seen.at - uptime_s, known.get(key))
        rows[key] = row
    return rows


def _started(at: float | None, known: Row | None) -> float | None:
    before = known["started_at"] if known else None
    if at is not None and isinstance(before, float) and abs(at - before) < _STARTED_WITHIN_S:
        return before
    return None if at is None else round(at, 1)


def room_rows(host: str, rooms: Iterable[Room], agents: Mapping[str, str]) -> Rows:
    """Return the rooms of a host's LiveKit, with the service whose agent is in each."""
    return {
        f"{host}/{one.sid or one.name}": {
            "host": host,
            "name": one.name,
            "created_at": one.created_at or None,
            "people": one.num_participants,
            "agent": agents.get(one.name),
        }
        for one in rooms
    }


def _with_hosts(incidents: Rows, acts_on: Mapping[str, str]) -> Rows:
    """An older monitor has recorded commands without their host: here they would act on this machine."""
    for row in incidents.values():
        if argument := acts_on.get(str(row["host"])):
            row["fix"] = steps_for_host(str(row["fix"] or ""), argument)
    return incidents


def _records(records: Iterable[msgspec.Struct]) -> Rows:
    rows = (msgspec.structs.asdict(one) for one in records)
    return {str(row["id"]): row for row in rows}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
