"""Recover takes only the steps that it must, proves each step, and never drops a call unasked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from voiceops.deadline import Deadline
from voiceops.doctor.recover import ProofCallResult, RecoveryLevel, StepResult, recover
from voiceops.errors import CallsInProgressError, DeadlineError, ServiceError
from voiceops.model.findings import Finding, Fix

BROKEN = Finding(
    rule="no-worker",
    severity="error",
    sentence="No worker runs.",
    evidence=("missing",),
    fixes=(Fix(command="inv start", action="start"),),
)


class FakeActions:
    """A stack that works again after the step ``cured_by``."""

    def __init__(self, cured_by: RecoveryLevel | None, findings: Sequence[Finding] = (BROKEN,)) -> None:
        self.cured_by = cured_by
        self.findings = findings
        self.did: list[str] = []
        self.works = cured_by is RecoveryLevel.DIAGNOSE

    def _do(self, level: RecoveryLevel) -> str:
        self.did.append(str(level))
        self.works = self.works or level is self.cured_by
        return f"did {level}"

    def diagnose(self) -> Sequence[Finding]:
        return self.findings

    def fix(self, findings: Sequence[Finding]) -> str:
        return self._do(RecoveryLevel.FIX)

    def clean_rooms(self) -> str:
        return self._do(RecoveryLevel.ROOMS)

    def restart(self, level: RecoveryLevel) -> str:
        return self._do(level)

    def prove(self) -> ProofCallResult:
        return ProofCallResult(answered=self.works, detail="audio after 0.4 s" if self.works else "no agent")


@pytest.mark.parametrize(
    ("cured_by", "did"),
    [
        (RecoveryLevel.FIX, ["fix"]),
        (RecoveryLevel.ROOMS, ["fix", "rooms"]),
        (RecoveryLevel.AGENTS, ["fix", "rooms", "agents"]),
        (RecoveryLevel.STACK, ["fix", "rooms", "agents", "stack"]),
        (None, ["fix", "rooms", "agents", "stack"]),
    ],
)
def test_it_stops_at_the_first_step_that_helps(cured_by: RecoveryLevel | None, did: list[str]) -> None:
    actions = FakeActions(cured_by)
    recovery = recover(actions, live_rooms=lambda: ())
    assert actions.did == did
    assert recovery.helped == cured_by


def test_a_healthy_stack_is_left_alone() -> None:
    actions = FakeActions(RecoveryLevel.DIAGNOSE, findings=())
    recovery = recover(actions, live_rooms=lambda: ["r"])
    assert actions.did == []
    assert (recovery.ok, recovery.changed) == (True, False)


def test_no_finding_but_an_unanswered_call_starts_the_climb_at_the_rooms() -> None:
    actions = FakeActions(RecoveryLevel.ROOMS, findings=())
    assert recover(actions, live_rooms=lambda: ()).helped is RecoveryLevel.ROOMS
    assert actions.did == ["rooms"]


def test_live_calls_stop_the_climb_before_the_stack_and_yes_goes_on() -> None:
    with pytest.raises(CallsInProgressError) as caught:
        recover(FakeActions(RecoveryLevel.STACK), live_rooms=lambda: ["r1"])
    assert caught.value.data["rooms"] == ["r1"]
    assert (
        recover(FakeActions(RecoveryLevel.STACK), live_rooms=lambda: ["r1"], yes=True).helped
        is RecoveryLevel.STACK
    )


def test_hard_restarts_the_stack_at_once() -> None:
    actions = FakeActions(RecoveryLevel.STACK)
    recover(actions, live_rooms=lambda: (), hard=True)
    assert actions.did == ["stack"]


def test_a_step_that_fails_is_reported_and_the_next_one_tried() -> None:
    class Clumsy(FakeActions):
        def clean_rooms(self) -> str:
            raise ServiceError("the server is away")

    recovery = recover(Clumsy(RecoveryLevel.AGENTS), live_rooms=lambda: ())
    assert recovery.helped is RecoveryLevel.AGENTS
    assert [step.error for step in recovery.steps if step.level is RecoveryLevel.ROOMS] == [
        "the server is away"
    ]


def test_no_step_begins_once_the_time_of_the_command_is_over() -> None:
    now = [100.0]

    class Slow(FakeActions):
        def _do(self, level: RecoveryLevel) -> str:
            now[0] += 4.0
            return super()._do(level)

    actions = Slow(RecoveryLevel.STACK)
    told: list[StepResult] = []
    with pytest.raises(DeadlineError, match="recover took longer than 6 s; the step agents was not begun"):
        recover(
            actions,
            live_rooms=lambda: (),
            tell=told.append,
            limit=Deadline(6.0, "recover", clock=lambda: now[0]),
        )
    assert actions.did == ["fix", "rooms"]
    assert [(str(step.level), step.took_s) for step in told] == [("diagnose", 0), ("fix", 4), ("rooms", 4)]


RAISES = Finding(
    rule="calls-failed",
    severity="error",
    sentence="The last call failed.",
    evidence=(),
    fixes=(Fix(command="correct agent.py:31", action=""),),
    by_hand=True,
    past=True,
)
UNLOADABLE = Finding(
    rule="agent-code",
    severity="error",
    sentence="The code can't be loaded.",
    evidence=(),
    fixes=(Fix(command="correct agent.py:3, then `inv start`", action="start"),),
    by_hand=True,
)


def test_code_that_can_not_be_loaded_is_started_once_and_nothing_else_is_restarted() -> None:
    actions = FakeActions(None, findings=(UNLOADABLE,))
    recovery = recover(actions, live_rooms=lambda: ())
    assert actions.did == ["fix"]
    assert [step.proof for step in recovery.steps] == [None, None]
    assert recovery.stopped_by == (UNLOADABLE,)


def test_code_that_was_corrected_meanwhile_serves_after_the_start() -> None:
    class Corrected(FakeActions):
        def fix(self, findings: Sequence[Finding]) -> str:
            self.findings = ()
            return super().fix(findings)

    actions = Corrected(RecoveryLevel.FIX, findings=(UNLOADABLE,))
    recovery = recover(actions, live_rooms=lambda: ())
    assert (actions.did, recovery.helped, recovery.stopped_by) == (["fix"], RecoveryLevel.FIX, ())


def test_calls_that_failed_are_tried_again_first_and_nothing_is_restarted_for_them() -> None:
    answered = FakeActions(RecoveryLevel.DIAGNOSE, findings=(RAISES,))
    assert recover(answered, live_rooms=lambda: ()).helped is RecoveryLevel.DIAGNOSE
    failing = FakeActions(None, findings=(RAISES,))
    recovery = recover(failing, live_rooms=lambda: ())
    assert (failing.did, recovery.helped, recovery.stopped_by) == ([], None, (RAISES,))


def test_calls_that_fail_in_old_code_while_the_new_one_can_not_be_loaded_restart_nothing() -> None:
    fixes = (Fix(command="correct agent.py:3, then `inv start`", action="start"),)
    raises = replace(RAISES, fixes=fixes)
    actions = FakeActions(None, findings=(raises,))
    recovery = recover(actions, live_rooms=lambda: ())
    assert (actions.did, recovery.stopped_by) == (["fix"], (raises,))

    class Corrected(FakeActions):
        def fix(self, findings: Sequence[Finding]) -> str:
            self.findings = ()
            return super().fix(findings)

    actions = Corrected(RecoveryLevel.FIX, findings=(raises,))
    recovery = recover(actions, live_rooms=lambda: ())
    assert (recovery.helped, recovery.stopped_by) == (RecoveryLevel.FIX, ())
