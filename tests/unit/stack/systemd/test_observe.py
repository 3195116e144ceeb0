"""What systemd says of units, as the words that reconcile decides on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.model import Observed, judge
from voiceops.stack.systemd.observe import host_probe, observed
from voiceops.systemd.names import HostNames

NAMES = HostNames("front")
AGENT = Declared(
    name="agent",
    kind="agent",
    role=Role.AGENT,
    cwd=Path("/"),
    digest="d1",
    release="r1",
    entry=Path("/x/desk.py"),
    livekit_url="ws://lk:7880/",
)
LIVEKIT = Declared(name="livekit", kind="livekit", role=Role.SERVER, cwd=Path("/"), ports=(7880, 7881))
HEALTHY = {"registered": True, "draining": False, "calls": 2, "rooms": ["a", "b"], "worker_id": "AW_1"}


def unit(name: str, **changed: Any) -> dict[str, Any]:
    service = name.removeprefix("front-").partition("@")[0].removesuffix(".service")
    values: dict[str, Any] = {
        "unit": name,
        "type": "notify",
        "active": "active",
        "sub": "running",
        "pid": 7,
        "restarts": 0,
        "result": "success",
        "code": 0,
        "status": 0,
        "environment": f"VOICEOPS_UNIT=front/{service} X=y",
        "enabled": "enabled",
        "text": "",
        "invocation": "i",
        "age_s": 5.0,
        "service": f"front/{service}/d1",
        "health": HEALTHY,
    }
    return values | changed


def see(
    *units: dict[str, Any],
    owners: tuple[dict[str, Any], ...] = (),
    workers: tuple[dict[str, Any], ...] = (),
) -> dict[str, Observed]:
    seen: Any = {"units": list(units), "owners": list(owners), "workers": list(workers)}
    return observed(NAMES, [AGENT, LIVEKIT], seen)


def test_a_registered_agent_is_ready_with_its_calls() -> None:
    (seen,) = see(unit("front-agent@r1.service"))["agent"].instances
    assert (seen.state, seen.calls, seen.rooms, seen.digest) == (ServiceState.READY, 2, ("a", "b"), "d1")
    assert (seen.release, seen.worker_id, seen.launch) == ("r1", "AW_1", "front-agent@r1.service")


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"active": "activating", "sub": "start"}, ServiceState.STARTING),
        ({"active": "activating", "sub": "auto-restart"}, ServiceState.UNRESPONSIVE),
        ({"active": "deactivating", "sub": "stop-sigterm"}, ServiceState.DRAINING),
        ({"health": None}, ServiceState.UNRESPONSIVE),
        ({"health": HEALTHY | {"registered": False}}, ServiceState.STARTING),
        ({"health": HEALTHY | {"draining": True}}, ServiceState.DRAINING),
    ],
)
def test_what_active_alone_does_not_tell(changed: dict[str, Any], state: ServiceState) -> None:
    (seen,) = see(unit("front-agent@r1.service", **changed))["agent"].instances
    assert seen.state is state


def test_a_twin_of_a_release_has_its_release() -> None:
    (seen,) = see(unit("front-agent@r1.2.service"))["agent"].instances
    assert seen.release == "r1"


def test_a_unit_that_systemd_gave_up_is_said_with_its_cause() -> None:
    verdict = judge(see(unit("front-livekit.service", active="failed", result="start-limit-hit"))["livekit"])
    assert verdict.state is ServiceState.STALE
    assert "start-limit-hit" in verdict.detail


def test_units_of_a_project_whose_name_begins_alike_and_jobs_are_not_seen() -> None:
    other = unit("front-desk-agent@r1.service", environment="VOICEOPS_UNIT=front-desk/agent")
    job = unit("front-cleanup.service", type="oneshot")
    assert set(see(other, job)) == {"agent", "livekit"}


def test_a_service_that_is_no_longer_declared_is_seen() -> None:
    assert see(unit("front-old.service"))["old"].instances


def test_only_a_foreign_owner_of_a_port_is_a_stray() -> None:
    ours = {
        "port": 7880,
        "pid": 7,
        "start": 70,
        "unit": "front-livekit.service",
        "command": "livekit-server",
        "age_s": 1.0,
    }
    foreign = {"port": 7881, "pid": 8, "start": 80, "unit": "", "command": "nc -l 7881", "age_s": 1.0}
    # Of a node that hands its calls over: it is there when the next deployer looks.
    leads = ours | {
        "pid": 9,
        "unit": "front-livekit-takeover-7.service",
        "command": "python3 voiceops-takeover",
    }
    strays = see(unit("front-livekit.service"), owners=(ours, foreign, leads))["livekit"].strays
    assert [(stray.pid, stray.start) for stray in strays] == [(8, "80")]


def test_a_worker_that_was_started_by_hand_is_a_stray_of_the_agent_with_its_entry() -> None:
    by_hand = {"pid": 9, "start": 90, "entry": "desk.py", "command": "python desk.py start"}
    by_hand |= {"age_s": 3.0, "calls": 1}
    seen = see(unit("front-agent@r1.service"), workers=(by_hand, by_hand | {"pid": 10, "entry": "x.py"}))
    verdict = judge(seen["agent"])
    assert (verdict.state, verdict.pids) == (ServiceState.STRAY, (7, 9))
    assert seen["agent"].strays[0].calls == 1


def test_a_masked_unit_is_said_with_what_takes_it_back() -> None:
    masked = {"masked": True, "environment": "", "active": "inactive", "sub": "dead", "pid": 0}
    verdict = judge(see(unit("front-livekit.service", **masked))["livekit"])
    assert verdict.state is ServiceState.STALE
    assert "systemctl unmask front-livekit.service" in verdict.detail
    assert set(see(unit("front-desk-web.service", **masked))) == {"agent", "livekit"}


def test_a_host_is_asked_for_what_these_services_need() -> None:
    asked = host_probe(NAMES, [AGENT, LIVEKIT])
    assert (asked["entries"], asked["url"]) == (["desk.py"], "ws://lk:7880")
    assert (asked["patterns"], asked["ports"]) == (["front-*.service", "front-livekit.service"], [7880, 7881])
    assert host_probe(NAMES, [LIVEKIT])["entries"] == []


TASK = Declared(name="task", kind="command", cwd=Path("/"), digest="d1", oneshot=True)


@pytest.mark.parametrize(
    ("shown", "state", "detail"),
    [
        ({"sub": "exited", "pid": 0}, ServiceState.COMPLETED, ""),
        (
            {"active": "failed", "sub": "failed", "pid": 0, "result": "exit-code", "status": 3},
            ServiceState.FAILED,
            "exit-code (status 3)",
        ),
        ({"active": "activating", "sub": "start"}, ServiceState.STARTING, "start"),
    ],
)
def test_a_one_shot_is_told_from_the_jobs_of_timers(
    shown: dict[str, Any], state: ServiceState, detail: str
) -> None:
    units = [
        unit("front-task.service", type="oneshot", **shown),
        unit("front-cleanup.service", type="oneshot", **shown),
    ]
    answer: Any = {"units": units, "owners": [], "workers": []}
    found = observed(NAMES, [TASK], answer)
    assert list(found) == ["task"]
    verdict = judge(found["task"])
    assert (verdict.state, verdict.detail) == (state, detail)
    assert verdict.instance is not None
    assert verdict.instance.digest == "d1"
