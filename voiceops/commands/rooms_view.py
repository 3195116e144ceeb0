"""How the room commands look on a terminal, and as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from voiceops.cli import output
from voiceops.model.quoting import printable
from voiceops.rooms.presence import persons, serving
from voiceops.util.times import iso_time_or_none
from voiceops.util.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voiceops.model.documents.rooms import (
        CleanupDocument,
        DispatchEntry,
        ParticipantEntry,
        RoomAgent,
        RoomDocument,
        RoomEntry,
        RoomVerdict,
    )
    from voiceops.model.rooms import Dispatch, Participant, Room, RoomInfo
    from voiceops.rooms.cleanup import CleanupReport
    from voiceops.rooms.rules import RoomDecision
    from voiceops.rooms.servers import RoomServer


def cleanup_document(reports_by_url: Mapping[str, CleanupReport], *, check: bool) -> CleanupDocument:
    """Return the verdicts on the rooms of all servers as one document."""
    by_server, reports = list(reports_by_url.items()), reports_by_url.values()
    return {
        "check": check,
        "changed_count": sum(len(report.deleted) + len(report.removed) for report in reports),
        "deleted": [_verdict(url, one) for url, report in by_server for one in report.deleted],
        "kept": [_verdict(url, one) for url, report in by_server for one in report.kept],
        "removed_participants": [
            {
                "room": one.room,
                "identity": one.participant.identity,
                "reason": one.reason,
                "rule": one.rule.value,
                "url": url,
            }
            for url, report in by_server
            for one in report.removed
        ],
        "failed": [
            {"room": name, "error": error.as_json(), "url": url}
            for url, report in by_server
            for name, error in report.failed
        ],
    }


def _verdict(url: str, one: RoomDecision) -> RoomVerdict:
    return {"room": one.snapshot.room.name, "reason": one.reason, "rule": one.rule.value, "url": url}


def room_entry(room: Room, people: Sequence[Participant], server: RoomServer, now: float) -> RoomEntry:
    """Return one room with who is in it; ``now`` is the server's clock."""
    callers = persons(people, server.rooms)
    return {
        "room": room.name,
        "sid": room.sid,
        "age_s": round(now - room.created_at, 1),
        "created_at": iso_time_or_none(room.created_at),
        "persons": [one.identity for one in callers],
        "agents": [agent_entry(one) for one in people if one.is_agent],
        "others": [one.identity for one in people if not one.is_agent and one not in callers],
        "url": server.url,
    }


def agent_entry(one: Participant) -> RoomAgent:
    """Return what can be known of an agent from outside."""
    return {"identity": one.identity, "name": one.agent_name, "state": serving(one).value}


def room_document(info: RoomInfo, url: str) -> RoomDocument:
    """Return one room with everybody and every dispatch in it."""
    room = info.room
    return {
        "room": room.name,
        "sid": room.sid,
        "age_s": round(time.time() - room.created_at, 1),
        "created_at": iso_time_or_none(room.created_at),
        "empty_timeout_s": room.empty_timeout_s,
        "departure_timeout_s": room.departure_timeout_s,
        "metadata": room.metadata,
        "recording": room.recording,
        "url": url,
        "participants": [_participant(one) for one in info.participants],
        "dispatches": [_dispatch(one) for one in info.dispatches],
    }


def _participant(one: Participant) -> ParticipantEntry:
    return {
        "identity": one.identity,
        "sid": one.sid,
        "name": one.name,
        "kind": one.kind.value,
        "state": one.state.value,
        "joined_at": iso_time_or_none(one.joined_at),
        "attributes": one.attributes,
        "tracks": [
            {
                "sid": track.sid,
                "kind": track.kind.value,
                "name": track.name,
                "source": track.source,
                "muted": track.muted,
            }
            for track in one.tracks
        ],
        "hidden": one.hidden,
        "agent": agent_entry(one) if one.is_agent else None,
    }


def _dispatch(one: Dispatch) -> DispatchEntry:
    return {
        "id": one.id,
        "agent_name": one.agent_name,
        "metadata": one.metadata,
        "created_at": iso_time_or_none(one.created_at),
        "deleted_at": iso_time_or_none(one.deleted_at),
        "jobs": [
            {
                "id": job.id,
                "status": job.status.value,
                "participant_identity": job.participant_identity,
                "worker_id": job.worker_id,
                "detail": job.error,
                "started_at": iso_time_or_none(job.started_at),
            }
            for job in one.jobs
        ],
    }


def cleanup_text(data: CleanupDocument) -> str:
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


def print_rooms(rooms: Sequence[RoomEntry]) -> str:
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
