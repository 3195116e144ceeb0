"""What the history remembers of a deploy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from voiceops.deploy.fleet import Fleet, HostRun
from voiceops.model.history import DeployRecord, record_id


def deploy_records(fleet: Fleet, action: str, *, by: str, at: float, took_s: float) -> Sequence[DeployRecord]:
    """One record for each host that was changed, or on which the deploy failed; none for a host as it should be.

    A host that went back by itself has one more.
    """
    return [record for one in fleet.runs for record in _records_of(one, action, by=by, at=at, took_s=took_s)]


def _records_of(one: HostRun, action: str, *, by: str, at: float, took_s: float) -> Iterator[DeployRecord]:
    if one.error is None and not (one.ok and one.deployed is not None and one.deployed.changed):
        return
    # Of a deploy that failed, the releases that it was about.
    releases = one.deployed.releases if one.deployed else one.state.releases if one.state else {}
    yield DeployRecord(
        id=record_id(action, one.name, at),
        host=one.name,
        at=at,
        action=action,
        ok=one.error is None,
        release=_listed(releases.values()),
        changed_count=one.deployed.changed if one.deployed else 0,
        by=by,
        detail="" if one.error is None else one.error.message,
        took_s=round(took_s, 3),
    )
    data = one.error.data if one.error is not None else {}
    back = data.get("went_back_to")
    if not back:
        return
    rollback = data["rollback"]
    yield DeployRecord(
        id=record_id("rollback", one.name, at),
        host=one.name,
        at=at + took_s - rollback["took_s"],
        action="rollback",
        ok=rollback["ok"],
        release=_listed(back.values()),
        changed_count=len(back),
        by=by,
        detail=rollback["cause"],
        took_s=rollback["took_s"],
    )


def _listed(releases: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(releases))
