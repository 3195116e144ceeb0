"""What the history remembers of a deploy."""

from __future__ import annotations

from collections.abc import Sequence

from voiceops.deploy.fleet import Fleet
from voiceops.model.history import DeployRecord, record_id


def deploy_records(fleet: Fleet, action: str, *, by: str, at: float, took_s: float) -> Sequence[DeployRecord]:
    """One record for each host that was changed, or on which the deploy failed; none for a host as it should be."""
    return [
        DeployRecord(
            id=record_id(action, one.name, at),
            host=one.name,
            at=at,
            action=action,
            ok=one.error is None,
            release=",".join(dict.fromkeys(one.deployed.releases.values())) if one.deployed else "",
            changed_count=one.deployed.changed if one.deployed else 0,
            by=by,
            detail="" if one.error is None else one.error.message,
            took_s=round(took_s, 3),
        )
        for one in fleet.runs
        if one.error is not None or (one.ok and one.deployed is not None and one.deployed.changed)
    ]
