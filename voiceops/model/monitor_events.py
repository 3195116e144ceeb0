"""What the monitor says of its work: checks, incidents, repairs, webhooks, probe calls, alerts.

Each is plain data for a ``ports.MonitorRecorder``. Points in time are seconds since the epoch by this host's clock.
A room name or identity can identify a caller: it stands in a field named ``room`` only, for whoever stores it to mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

import msgspec


class _MonitorEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    at: float
    host: str
    """The host's name in the inventory."""


class RoomCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Rooms of one LiveKit at one check."""

    total: int = 0
    in_call: int = 0
    """With a person and a live agent."""
    waiting: int = 0
    """With a person and no live agent."""
    agent_only: int = 0
    empty: int = 0
    stuck: int = 0
    """A person has waited for longer than a join takes."""
    unknown: int = 0
    """Not looked at in this check."""


class CheckSummary(_MonitorEvent, frozen=True, kw_only=True, tag="check"):
    """One check, whatever came of it."""

    ok: bool
    took_s: float
    services: Mapping[str, str] = {}
    """Service -> ``ServiceState``."""
    worker_count: int | None = None
    """Agents that are registered with LiveKit; None: not known."""
    call_count: int | None = None
    rooms: RoomCounts | None = None
    """None: LiveKit did not answer, or this host's monitor does not look after its rooms."""
    held_by: str = ""
    """Who held the lock, so that nothing was repaired; empty: nobody."""
    probe_ok: bool | None = None
    """The last probe call; None: none was placed yet."""


class Incident(_MonitorEvent, frozen=True, kw_only=True, tag="incident"):
    """A period in which something was not as it should be. Recorded when it begins and again when it ends."""

    incident: str
    """Its identifier: the same in both records, in its repairs and in its alert."""
    cause: str
    """What is wrong in one word, such as ``service-missing``, ``no-worker``, ``livekit-unreachable``, ``job-lost``."""
    subject: str = ""
    """The service that it concerns; empty: the whole stack."""
    room: str = ""
    sentence: str = ""
    fix: str = ""
    """The command that a person would type."""
    began_at: float
    ended_at: float | None = None
    """None: it goes on."""


class Repair(_MonitorEvent, frozen=True, kw_only=True, tag="repair"):
    """Something that the monitor did, once it is over."""

    action: str
    """``start``, ``restart``, ``resume``, ``dispatch``, ``remove``, ``delete-room``."""
    subject: str = ""
    room: str = ""
    reason: str = ""
    incident: str = ""
    ok: bool = True
    error: str = ""
    took_s: float = 0.0
    attempt: int = 1


class WebhookEvent(_MonitorEvent, frozen=True, kw_only=True, tag="webhook"):
    """One verified webhook of LiveKit.

    ``at`` is when it was received, because LiveKit's ``created_at`` has whole seconds; of one that came late it is that.
    """

    delivery: str
    """Its identifier: LiveKit sends the same one again when it got no answer."""
    kind: str
    """``room_started``, ``room_finished``, ``participant_joined``, ``participant_left``, ``track_published``, ..."""
    room: str
    room_sid: str = ""
    participant_sid: str = ""
    identity: str = ""
    """Of the participant; like ``room``, for whoever stores it to mask."""
    is_agent: bool = False
    """False also where LiveKit does not say: webhooks of tracks have no kind."""
    reason: str = ""
    """Of a ``participant_left``: LiveKit's disconnect reason."""


class ProbeCall(_MonitorEvent, frozen=True, kw_only=True, tag="probe"):
    """A synthetic call by the monitor."""

    ok: bool
    connect_s: float | None = None
    agent_s: float | None = None
    audio_s: float | None = None
    error: str = ""


class AlertRaised(_MonitorEvent, frozen=True, kw_only=True, tag="alert"):
    """What a person should know of. Recorded when it begins and again when it is over."""

    alert: str
    """What it is about, such as ``restart-limit``; with ``subject`` it names the alert."""
    subject: str = ""
    sentence: str = ""
    fix: str = ""
    resolved: bool = False
    incident: str = ""


MonitorEvent = Union[CheckSummary, Incident, Repair, WebhookEvent, ProbeCall, AlertRaised]
