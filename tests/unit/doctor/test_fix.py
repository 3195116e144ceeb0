"""Fixes are carried out once each, services before rooms, and a failing one does not stop the rest."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.unit.doctor.scenes import caller, room, scene, worker
from voiceops.doctor.diagnose import diagnose
from voiceops.doctor.fix import carry_out, on_host, steps
from voiceops.errors import NotFoundError, ServiceError
from voiceops.model.findings import Finding, Fix
from voiceops.model.states import ServiceState


class FakeActions:
    """Stack and rooms; remembers what it was asked."""

    def __init__(self, failing: str = "") -> None:
        self.did: list[str] = []
        self.failing = failing

    def _do(self, what: str) -> None:
        self.did.append(what)
        if self.failing and what.startswith(self.failing):
            raise ServiceError(f"{what} failed")

    def start(self, only: Sequence[str], *, replace: bool) -> None:
        self._do(f"start {','.join(only)} {replace}")

    def restart(self, only: Sequence[str], *, now: bool) -> None:
        self._do(f"restart {','.join(only)} {now}")

    def dispatch(self, room: str, agent_name: str) -> None:
        self._do(f"dispatch {room}")

    def remove(self, room: str, identity: str) -> None:
        raise NotFoundError("gone already")

    def delete(self, room: str, sid: str) -> None:
        self._do(f"delete {room}")


def test_the_worker_is_started_before_each_waiting_caller_gets_one_dispatch() -> None:
    down = worker(state=ServiceState.MISSING, registered=None, answers=False)
    facts = scene(room(caller(), name="r1"), room(caller(), name="r2"), workers=(down,))
    actions = FakeActions()
    results = carry_out(steps(diagnose(facts)), actions, actions)
    assert actions.did == ["start agent False", "dispatch r1", "dispatch r2"]
    assert all(result.done for result in results)


def test_a_frozen_worker_is_replaced_not_killed() -> None:
    actions = FakeActions()
    carry_out(steps(diagnose(scene(workers=(worker(stopped=True),)))), actions, actions)
    assert actions.did == ["start agent False"]


def test_a_failing_step_is_reported_and_the_others_are_done() -> None:
    down = worker(state=ServiceState.MISSING, registered=None, answers=False)
    actions = FakeActions(failing="start")
    results = carry_out(steps(diagnose(scene(room(caller()), workers=(down,)))), actions, actions)
    assert [(result.done, result.error) for result in results] == [
        (False, "start agent False failed"),
        (True, ""),
    ]


def test_what_is_gone_already_counts_as_done_and_what_needs_a_person_does_not() -> None:
    actions = FakeActions()
    results = carry_out(
        [
            Fix(command="inv rooms.kick r a", action="remove", room="r", identity="a"),
            Fix(command="timedatectl set-ntp true", action=""),
        ],
        actions,
        actions,
    )
    assert [result.done for result in results] == [True, False]


@pytest.mark.parametrize(
    ("command", "room", "expected"),
    [
        (
            "inv stop --only a --now && inv start --only a",
            "",
            "inv stop --only a --now --host w1 && inv start --only a --host w1",
        ),
        ("inv rooms.dispatch 'a && inv b'", "a && inv b", "inv rooms.dispatch 'a && inv b' --host w1"),
        ("inv inventory --host localhost", "", "inv inventory --host localhost"),
        ("add a host to the agents' group", "", "add a host to the agents' group"),
        (
            "correct agent.py:3 or what it needs, then `inv start --only agent` and `inv call`",
            "",
            "correct agent.py:3 or what it needs, then `inv deploy --host w1` and `inv call --host w1`",
        ),
    ],
)
def test_commands_that_fix_a_server_name_it(command: str, room: str, expected: str) -> None:
    fix = Fix(command=command, action="", room=room)
    finding = Finding(rule="r", severity="error", sentence="", evidence=(), fixes=(fix,))
    assert on_host(finding, "w1").fix == expected
