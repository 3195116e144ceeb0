"""A server that has to end waits for a moment without calls, and says which calls it ends when it may."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from voiceops.errors import CallsInProgressError
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack import operations
from voiceops.stack.model import Instance
from voiceops.stack.occupancy import CallRisk
from voiceops.stack.operations import StartPlan, wait_until_empty
from voiceops.stack.reconcile import Action, Verb
from voiceops.stack.stack import Stack

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
