"""Records for tests of the history."""

from __future__ import annotations

from voiceops.model.history import CallRecord, CheckRecord, DeployRecord, IncidentRecord, RepairRecord

CALL = CallRecord(id="call", host="web1", kind="caller", started_at=100.0)
INCIDENT = IncidentRecord(id="incident", host="web1", cause="no-worker", subject="agent", began_at=110.0)
REPAIR = RepairRecord(
    id="repair", host="web1", at=120.0, action="restart", subject="agent", incident="incident"
)
DEPLOY = DeployRecord(id="deploy", host="web2", at=130.0, action="deploy", ok=True, release="r1", by="me")
CHECK = CheckRecord(id="check", host="web1", at=140.0, ok=True, room_count=2)
ALL = (CALL, INCIDENT, REPAIR, DEPLOY, CHECK)
