"""A caller that stands by: when its result is there, and what ends its call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from voiceops.calls import standby
from voiceops.calls.standby import StandbyCaller
from voiceops.errors import UnreachableError
from voiceops.model.calls import CallPlan, CallResult, CallTarget, FailureKind
from voiceops.model.secret import Secret

TARGET = CallTarget(url="ws://127.0.0.1:1", api_key=Secret("k"), api_secret=Secret("s"))
HEARD = CallResult(id=0, ok=True, room="r", identity="c")


class Pool:
    """The caller's process."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def warm_up(self, plan: CallPlan) -> None:
        self.steps.append("warm")

    async def aclose(self) -> None:
        self.steps.append("closed")


class Line:
    """What becomes of a call; ``tidied`` once its room is deleted, ``hung_up`` where it was given up."""

    def __init__(self, *, heard: bool = True, error: Exception | None = None) -> None:
        self.pool = Pool()
        self.heard = heard
        self.error = error
        self.tidied = self.hung_up = False
        self.clear_up = asyncio.Event()

    async def run(self, target: CallTarget, plan: CallPlan, **given: Any) -> Any:
        assert given["callers"] is self.pool
        if self.error is not None:
            raise self.error
        try:
            if self.heard:
                given["on_result"](HEARD)
            else:
                await asyncio.Event().wait()
            await self.clear_up.wait()
            self.tidied = True
        except asyncio.CancelledError:
            self.hung_up = True
            raise


@pytest.fixture
def standing_by(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Line], StandbyCaller]]:
    monkeypatch.setattr(standby, "LOOK_AFTER_S", 0.01)
    monkeypatch.setattr(standby, "LOOK_EVERY_S", 0.01)
    made: list[StandbyCaller] = []

    def make(line: Line) -> StandbyCaller:
        made.append(StandbyCaller(line.run, make_pool=lambda: cast(Any, line.pool)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_result_is_there_before_its_room_is_deleted_which_close_waits_for(
    standing_by: Callable[[Line], StandbyCaller],
) -> None:
    line = Line()
    caller = standing_by(line)
    assert caller.place(TARGET, timeout_s=15.0) == HEARD
    assert not line.tidied
    caller._loop.call_soon_threadsafe(line.clear_up.set)
    caller.close()
    assert line.tidied
    assert line.pool.steps == ["warm", "closed"]
    caller.close()


def test_it_hangs_up_once_whom_it_calls_has_ended(standing_by: Callable[[Line], StandbyCaller]) -> None:
    line = Line(heard=False)
    asked: list[float] = []

    def ended() -> bool:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise UnreachableError("a host that does not answer says nothing")
        return len(asked) == 3

    caller = standing_by(line)
    result = caller.place(TARGET, timeout_s=15.0, ended=ended)
    assert result.failure is not None
    assert (result.failure.kind, len(asked)) == (FailureKind.NO_AGENT, 3)
    caller.close()
    assert line.hung_up


def test_what_keeps_a_call_from_being_placed_is_raised(standing_by: Callable[[Line], StandbyCaller]) -> None:
    with pytest.raises(UnreachableError, match="nobody listens"):
        standing_by(Line(error=UnreachableError("nobody listens"))).place(TARGET, timeout_s=15.0)
