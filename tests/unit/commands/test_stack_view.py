"""What is printed after services were started and stopped."""

from __future__ import annotations

import pytest

from voiceops.commands.stack_view import results_text
from voiceops.model.states import ServiceState
from voiceops.stack.results import ServiceResult


@pytest.mark.parametrize(("agents", "command"), [(True, "inv call"), (False, "inv status")])
def test_a_call_is_the_next_step_only_where_an_agent_takes_it(agents: bool, command: str) -> None:
    started = {"localhost": {"web": ServiceResult(ServiceState.READY, changed=True)}}
    assert results_text(started, "start", None, agents=agents)().splitlines()[-1] == f"next: {command}"
