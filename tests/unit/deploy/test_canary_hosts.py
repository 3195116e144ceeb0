"""Where a canary makes no sense."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest

from voiceops.deploy.canary_hosts import refuse_canary, replaces_an_agent
from voiceops.deploy.fleet import HostRun
from voiceops.errors import UsageError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.stack.reconcile import Action, Verb

AGENT = Declared(name="agent", kind="agent", role=Role.AGENT, cwd=Path("/"))


def run_of(verb: Verb | None, *, overlap: Literal["auto", "never"] = "auto") -> HostRun:
    """A host whose agent is to be brought there by ``verb``; None: it runs no agent."""
    actions = () if verb is None else (Action(service="agent", verb=verb),)
    host = SimpleNamespace(name="web1", settings=SimpleNamespace(deploy=SimpleNamespace(overlap=overlap)))
    return HostRun(
        cast(Any, host),
        cast(Any, None),
        lambda: None,
        state=cast(Any, SimpleNamespace(services=(AGENT,) if verb else ())),
        planned=cast(Any, SimpleNamespace(actions=actions)),
    )


@pytest.mark.parametrize(
    ("run", "call", "told"),
    [
        (run_of(Verb.START), True, "no release of agent serves there"),
        (run_of(Verb.RESTART), True, "no release of agent serves there"),
        (run_of(None), True, "it runs no agent"),
        (run_of(Verb.OVERLAP), False, "calls are left out"),
        (run_of(Verb.OVERLAP, overlap="never"), True, "no two releases run side by side"),
    ],
)
def test_it_is_refused_with_a_hint(run: HostRun, call: bool, told: str) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        refuse_canary(run, call=call)
    assert refused.value.hint


@pytest.mark.parametrize(("verb", "replaces"), [(Verb.OVERLAP, True), (Verb.KEEP, False)])
def test_beside_an_agent_that_serves_it_is_not(verb: Verb, replaces: bool) -> None:
    refuse_canary(run_of(verb), call=True)
    assert replaces_an_agent(run_of(verb)) is replaces
