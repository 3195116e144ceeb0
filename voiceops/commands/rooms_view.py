"""How the room commands look on a terminal, and as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from voiceops.cli import output
from voiceops.model.quoting import printable
from voiceops.util.words import counted

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
    lines = [f"{done} room {printable(one['room'])}: {one['reason']}" for one in data["deleted"]]
    lines += [
        f"{gone} {printable(one['identity'])} from room {printable(one['room'])}: {one['reason']}"
        for one in data["removed_participants"]
    ]
    lines += [f"kept room {printable(one['room'])}: {one['reason']}" for one in data["kept"]]
    lines.append(
        f"{done} {counted(len(data['deleted']), 'room')}, kept {counted(len(data['kept']), 'room')}, "
        f"{gone} {counted(len(data['removed_participants']), 'participant')}"
    )
    return "\n".join(lines)


def print_rooms(rooms: Sequence[dict[str, Any]]) -> str:
    """A row for each room; returns what follows the table."""
    rows = [
        [
            row["room"],
            f"{row['age_s']:.0f} s",
            ", ".join(row["persons"]),
            ", ".join(f"{one['name'] or 'unnamed'} ({one['state']})" for one in row["agents"]),
            ", ".join(row["others"]),
        ]
        for row in rooms
    ]
    output.show_table(rows, headings=("room", "age", "persons", "agents", "others"), right=(1,))
    return counted(len(rooms), "room")


def print_room(info: RoomInfo) -> str:
    """The room, its participants and its dispatches; returns what follows the last table."""
    from voiceops.rooms.presence import serving

    room, now = info.room, time.time()
    output.show(f"{printable(room.name)}  {room.sid}  made {now - room.created_at:.0f} s ago")
    people = []
    for one in info.participants:
        agent = f"{one.agent_name or 'unnamed'}: {serving(one)}" if one.is_agent else ""
        tracks = ", ".join(f"{track.kind}{' (muted)' if track.muted else ''}" for track in one.tracks)
        since = f"{now - one.joined_at:.0f} s"
        people.append([one.identity, one.kind.value, one.state.value, since, tracks, agent])
    output.show_table(people, headings=("participant", "kind", "state", "for", "tracks", "agent"))
    output.show(counted(len(info.participants), "participant"))
    asked = []
    for dispatch in info.dispatches:
        jobs = ", ".join(f"{job.status} {job.participant_identity}".strip() for job in dispatch.jobs)
        age = f"{now - dispatch.created_at:.0f} s"
        asked.append([dispatch.id, dispatch.agent_name or "unnamed", age, jobs or "not taken (yet)"])
    output.show_table(asked, headings=("dispatch", "agent", "age", "jobs"))
    return counted(len(info.dispatches), "dispatch", "dispatches")
