"""How the room commands look on a terminal, and as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from voiceops.model.quoting import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voiceops.model.rooms import RoomInfo
    from voiceops.rooms.cleanup import CleanupReport


def cleanup_data(urls: Sequence[str], reports: Sequence[CleanupReport], *, check: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "check": check,
        "deleted": [],
        "kept": [],
        "removed_participants": [],
        "failed": [],
    }
    for url, report in zip(urls, reports, strict=True):
        for key, verdicts in (("deleted", report.deleted), ("kept", report.kept)):
            data[key] += [
                {"room": one.look.room.name, "reason": one.reason, "rule": one.rule.value, "server": url}
                for one in verdicts
            ]
        data["removed_participants"] += [
            {
                "room": one.room,
                "identity": one.participant.identity,
                "reason": one.reason,
                "rule": one.rule.value,
                "server": url,
            }
            for one in report.removed
        ]
        data["failed"] += [
            {"room": name, "error": error.message, "server": url} for name, error in report.failed
        ]
    return data


def cleanup_text(data: dict[str, Any]) -> str:
    done, gone = ("would delete", "would remove") if data["check"] else ("deleted", "removed")
    lines = [f"{done} {printable(one['room'])}: {one['reason']}" for one in data["deleted"]]
    lines += [
        f"{gone} {printable(one['identity'])} from {printable(one['room'])}: {one['reason']}"
        for one in data["removed_participants"]
    ]
    lines += [f"kept {printable(one['room'])}: {one['reason']}" for one in data["kept"]]
    lines.append(
        f"{done} {len(data['deleted'])}, kept {len(data['kept'])}, "
        f"{gone} {len(data['removed_participants'])} participants"
    )
    return "\n".join(lines)


def print_rooms(rooms: Sequence[dict[str, Any]]) -> None:
    table = _table("room", "age", "persons", "agents", "others")
    for row in rooms:
        agents = ", ".join(f"{one['name'] or 'unnamed'} ({one['state']})" for one in row["agents"])
        table.add_row(
            *_cells(
                row["room"],
                f"{row['age_s']:.0f} s",
                ", ".join(row["persons"]),
                agents,
                ", ".join(row["others"]),
            )
        )
    _print(table, f"{len(rooms)} rooms")


def print_room(info: RoomInfo) -> None:
    from voiceops.rooms.presence import serving

    room = info.room
    print(f"{printable(room.name)}  {room.sid}  made {time.time() - room.created_at:.0f} s ago")
    people = _table("participant", "kind", "state", "for", "tracks", "agent")
    for one in info.participants:
        agent = f"{one.agent_name or 'unnamed'}: {serving(one)}" if one.is_agent else ""
        tracks = ", ".join(f"{track.kind}{' (muted)' if track.muted else ''}" for track in one.tracks)
        since = f"{time.time() - one.joined_at:.0f} s"
        people.add_row(*_cells(one.identity, one.kind.value, one.state.value, since, tracks, agent))
    _print(people, f"{len(info.participants)} participants")
    asked = _table("dispatch", "agent", "age", "jobs")
    for dispatch in info.dispatches:
        jobs = ", ".join(f"{job.status} {job.participant_identity}".strip() for job in dispatch.jobs)
        age = f"{time.time() - dispatch.created_at:.0f} s"
        asked.add_row(*_cells(dispatch.id, dispatch.agent_name or "unnamed", age, jobs or "not taken (yet)"))
    _print(asked, f"{len(info.dispatches)} dispatches")


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _cells(*texts: str) -> list[Any]:
    """Cells that show what they hold: no markup, no control characters."""
    from rich.text import Text

    return [Text(printable(text)) for text in texts]


def _print(table: Any, summary: str) -> None:
    from rich.console import Console

    if table.row_count:
        Console(soft_wrap=False).print(table)
    print(summary)
