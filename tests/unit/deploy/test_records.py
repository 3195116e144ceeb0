"""What the history keeps of a deploy: what was changed, what failed, and that a host went back by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.unit.deploy.test_fleet import run_of
from voiceops.deploy.fleet import Fleet, HostRun
from voiceops.deploy.records import deploy_records
from voiceops.errors import ServiceError
from voiceops.model.history import DeployRecord


def deployed(name: str, *, changed: int, error: ServiceError | None = None) -> HostRun:
    run = run_of(name)
    done: Any = SimpleNamespace(releases={"agent": "r2"}, changed=changed)
    run.state = done
    run.deployed = None if error else done
    run.error = error
    return run


def kept(*runs: HostRun) -> list[DeployRecord]:
    fleet = Fleet(runs=list(runs), parallel=1)
    return list(deploy_records(fleet, "deploy", by="ann", at=100.0, took_s=30.0))


def test_a_host_that_was_changed_has_a_record_and_one_as_it_should_be_has_none() -> None:
    (one,) = kept(deployed("web1", changed=3), deployed("web2", changed=0))
    assert (one.host, one.action, one.ok, one.release, one.changed_count) == ("web1", "deploy", True, "r2", 3)
    assert (one.by, one.at, one.took_s, one.detail) == ("ann", 100.0, 30.0, "")


def test_a_deploy_that_failed_names_the_release_that_it_was_about() -> None:
    (one,) = kept(deployed("web1", changed=0, error=ServiceError("not ready")))
    assert (one.ok, one.release, one.detail) == (False, "r2", "not ready")


def test_a_host_that_went_back_has_a_record_of_that_too() -> None:
    data = {"went_back_to": {"agent": "r1"}, "rollback": {"ok": True, "cause": "no voice", "took_s": 4.0}}
    failed, back = kept(deployed("web1", changed=0, error=ServiceError("r2 failed: no voice", data=data)))
    assert (failed.action, failed.ok, failed.release) == ("deploy", False, "r2")
    assert (back.action, back.ok, back.release, back.detail) == ("rollback", True, "r1", "no voice")
    assert (back.by, back.at, back.took_s) == ("ann", 126.0, 4.0)
    assert failed.id != back.id
