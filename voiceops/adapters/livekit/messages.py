"""LiveKit's protobuf messages as the plain data of ``voiceops.model.rooms``."""

from __future__ import annotations

from livekit.protocol import agent, agent_dispatch, models

from voiceops.model.rooms import (
    Dispatch,
    Job,
    JobStatus,
    Participant,
    ParticipantKind,
    ParticipantState,
    Room,
    Track,
    TrackKind,
)


def room(one: models.Room) -> Room:
    return Room(
        name=one.name,
        sid=one.sid,
        created_at=one.creation_time_ms / 1000 or float(one.creation_time),
        empty_timeout_s=one.empty_timeout,
        departure_timeout_s=one.departure_timeout,
        num_participants=one.num_participants,
        num_publishers=one.num_publishers,
        metadata=one.metadata,
        recording=one.active_recording,
    )


_KINDS = {
    models.ParticipantInfo.STANDARD: ParticipantKind.STANDARD,
    models.ParticipantInfo.INGRESS: ParticipantKind.INGRESS,
    models.ParticipantInfo.EGRESS: ParticipantKind.EGRESS,
    models.ParticipantInfo.SIP: ParticipantKind.SIP,
    models.ParticipantInfo.AGENT: ParticipantKind.AGENT,
    models.ParticipantInfo.CONNECTOR: ParticipantKind.CONNECTOR,
    models.ParticipantInfo.BRIDGE: ParticipantKind.BRIDGE,
}
_STATES = {
    models.ParticipantInfo.JOINING: ParticipantState.JOINING,
    models.ParticipantInfo.JOINED: ParticipantState.JOINED,
    models.ParticipantInfo.ACTIVE: ParticipantState.ACTIVE,
    models.ParticipantInfo.DISCONNECTED: ParticipantState.DISCONNECTED,
}
_TRACKS = {
    models.TrackType.AUDIO: TrackKind.AUDIO,
    models.TrackType.VIDEO: TrackKind.VIDEO,
    models.TrackType.DATA: TrackKind.DATA,
}
_JOBS = {
    agent.JobStatus.JS_PENDING: JobStatus.PENDING,
    agent.JobStatus.JS_RUNNING: JobStatus.RUNNING,
    agent.JobStatus.JS_SUCCESS: JobStatus.SUCCESS,
    agent.JobStatus.JS_FAILED: JobStatus.FAILED,
    agent.JobStatus.JS_CANCELLED: JobStatus.CANCELLED,
}


def participant(one: models.ParticipantInfo) -> Participant:
    return Participant(
        identity=one.identity,
        sid=one.sid,
        name=one.name,
        kind=_KINDS.get(one.kind, ParticipantKind.UNKNOWN),
        state=_STATES.get(one.state, ParticipantState.ACTIVE),
        joined_at=one.joined_at_ms / 1000 or float(one.joined_at),
        attributes=dict(one.attributes),
        tracks=tuple(_track(each) for each in one.tracks),
        hidden=one.permission.hidden,
    )


def _track(one: models.TrackInfo) -> Track:
    return Track(
        sid=one.sid,
        kind=_TRACKS.get(one.type, TrackKind.DATA),
        name=one.name,
        source=models.TrackSource.Name(one.source).lower() if one.source in range(5) else "",
        muted=one.muted,
    )


def dispatch(one: agent_dispatch.AgentDispatch) -> Dispatch:
    return Dispatch(
        id=one.id,
        room=one.room,
        agent_name=one.agent_name,
        metadata=one.metadata,
        created_at=one.state.created_at / 1e9,
        deleted_at=one.state.deleted_at / 1e9,
        jobs=tuple(_job(each) for each in one.state.jobs),
    )


def _job(one: agent.Job) -> Job:
    return Job(
        id=one.id,
        status=_JOBS.get(one.state.status, JobStatus.RUNNING),
        participant_identity=one.state.participant_identity,
        worker_id=one.state.worker_id,
        error=one.state.error,
        started_at=one.state.started_at / 1e9,
    )
