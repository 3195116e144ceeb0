"""A server that has to end waits for a moment without calls, and says which calls it ends when it may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest

from voiceops.errors import CallsInProgressError
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack import operations
from voiceops.stack.model import Instance
from voiceops.stack.occupancy import CallRisk
from voiceops.stack.operations import StartPlan, wait_until_empty, without_calls
from voiceops.stack.reconcile import Action, Verb
from voiceops.stack.stack import LivekitAccess, Stack

SERVER = Instance(
    service="livekit", role=Role.SERVER, launch="l", pid=1, digest="d", state=ServiceState.READY
)
ENDS_SERVER = (Action(service="livekit", verb=Verb.RESTART, instance=SERVER),)
BUSY, EMPTY = CallRisk(rooms=("a", "b"), on_server=("a",)), CallRisk()


@pytest.fixture
def said() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def stack(said: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setattr(operations, "_POLL_S", 0.01)
    monkeypatch.setattr(operations, "_ENTERING_S", 0.0)
    unused: Any = None
    return Stack(
        services=tuple,
        outline=(),
        backend=unused,
        lock=unused,
        progress=lambda *words: said.append(cast("tuple[str, str, str]", words)),
    )


def plans(*risks: CallRisk, actions: tuple[Action, ...] = ENDS_SERVER) -> Iterator[StartPlan]:
    return iter([StartPlan({}, actions, risk) for risk in risks])


def test_the_first_moment_without_a_call_is_taken(stack: Stack, said: list[tuple[str, str, str]]) -> None:
    found = plans(BUSY, BUSY, EMPTY, BUSY)
    assert wait_until_empty(stack, lambda: next(found), 30.0).risk is EMPTY
    assert said == [("calls", "draining", "2 in progress, up to 30 s")] * 2


def test_calls_that_outlast_the_wait_are_named_and_nothing_is_ended(stack: Stack) -> None:
    with pytest.raises(CallsInProgressError, match="no moment without one within 0 s") as caught:
        wait_until_empty(stack, lambda: StartPlan({}, ENDS_SERVER, BUSY), 0.0)
    assert caught.value.data["rooms"] == ["a", "b"]


def test_only_the_end_of_a_server_is_waited_for(stack: Stack) -> None:
    found = plans(BUSY, EMPTY, actions=())
    assert wait_until_empty(stack, lambda: next(found), 30.0).risk is BUSY


def test_calls_that_are_dropped_are_named(stack: Stack, said: list[tuple[str, str, str]]) -> None:
    operations.hang_up(stack, BUSY, {})
    operations.hang_up(stack, EMPTY, {})
    assert said == [("calls", "dropping", "2 calls: a, b")]


class Door:
    """Has callers wait, or can't; what is done in which order."""

    def __init__(self, *, works: bool = True) -> None:
        self.seen: list[str] = []
        self._works = works

    @contextmanager
    def hold(self) -> Iterator[LivekitAccess | None]:
        self.seen.append("shut")
        yield LivekitAccess() if self._works else None
        self.seen.append("open")


def kept(stack: Stack, door: Door, drain_s: float | None, *risks: CallRisk) -> tuple[StartPlan, ExitStack]:
    """The plan that counts, and what lets callers in; the first of ``risks`` was seen before."""
    found = plans(*risks)
    held = ExitStack()
    made, _ = without_calls(stack, lambda stack: next(found), next(found), drain_s, door.hold, held)
    return made, held


def test_callers_wait_from_the_last_look_until_they_are_let_in(stack: Stack) -> None:
    door = Door()
    made, held = kept(stack, door, None, EMPTY, EMPTY)
    assert (made.risk, door.seen) == (EMPTY, ["shut"])
    held.close()
    held.close()
    assert door.seen == ["shut", "open"]


def test_who_has_come_at_the_last_moment_is_let_in_and_waited_for(stack: Stack) -> None:
    door = Door()
    made, _ = kept(stack, door, 30.0, EMPTY, BUSY, BUSY, EMPTY, EMPTY)
    assert (made.risk, door.seen) == (EMPTY, ["shut", "open", "shut"])


def test_who_has_come_at_the_last_moment_is_not_cut_off(stack: Stack) -> None:
    door = Door()
    with pytest.raises(CallsInProgressError):
        kept(stack, door, None, EMPTY, BUSY)
    assert door.seen == ["shut", "open"]


def test_a_host_that_can_not_have_callers_wait_restarts_its_server_as_well(stack: Stack) -> None:
    door = Door(works=False)
    made, _ = kept(stack, door, None, EMPTY)
    assert (made.risk, door.seen) == (EMPTY, ["shut", "open"])


def test_nobody_waits_where_no_server_ends(stack: Stack) -> None:
    door = Door()
    without_calls(stack, lambda stack: next(plans()), StartPlan({}, (), EMPTY), None, door.hold, ExitStack())
    assert door.seen == []
