"""The agents of all hosts of a deploy, while servers that they register with restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from voiceops.deadline import Deadline
from voiceops.deploy.fleet import Fleet, HostRun
from voiceops.deploy.host_stacks import HostStacks
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.model import Observed
from voiceops.stack.room_hooks import send_agents
from voiceops.stack.stack import Stack

_REGISTER_AGAIN_S = 30.0
_SOON_S = 10.0
"""By their library's pace agents are back after up to six seconds."""
_POLL_S = 0.5


class FleetAgents:
    """Agents on other hosts register again with a server that was restarted, within seconds."""

    def __init__(self, fleet: Fleet, stacks: HostStacks, say: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._stacks = stacks
        self._say = say
        self._server_ended = False

    def wait(self) -> list[str]:
        """Wait until they have registered again, where a server was restarted; returns the hosts where they are missing.

        Until then the next server must stay, and nobody would answer a call. Only agents that were ready before this
        run are waited for.
        """
        missing = self._missing(_REGISTER_AGAIN_S) if self._server_ended else []
        for name in missing:
            self._say(f"{name}: its agents have not registered again")
        return missing

    def _missing(self, within_s: float) -> list[str]:
        missing: list[str] = []
        limit = Deadline(within_s, "the agents to register again")
        for run in self._fleet.runs:
            served = ready(run.planned.observed, Role.AGENT) if run.ok and run.planned else set()
            if run.state is None or not served:
                continue
            stack = self._stacks.of(run, run.state.services)
            while served - ready(stack.backend.observe(run.state.services), Role.AGENT):
                if limit.remaining_s <= 0:
                    missing.append(run.name)
                    break
                time.sleep(_POLL_S)
        return missing

    def server_ended(self, run: HostRun, *, cut_calls: bool) -> None:
        """The livekit-server of this host was restarted: who called before agents of other hosts were back gets one.

        Those of its own host were waited for by its stack. ``cut_calls``: the agents of calls that were cut off may
        come back by themselves, and none is sent.
        """
        self._server_ended = True
        others = [one for one in self._fleet.runs if one is not run and one.ok and _has_agents(one)]
        if cut_calls or not others or run.state is None or self._missing(_SOON_S):
            return  # those that come later may have new keys to get first
        send_agents(self._stack(run), [self._stack(one) for one in (run, *others)])

    def _stack(self, run: HostRun) -> Stack:
        assert run.state is not None
        return self._stacks.of(run, run.state.services)


def _has_agents(run: HostRun) -> bool:
    return run.state is not None and any(one.is_agent for one in run.state.services)


def ready(observed: Mapping[str, Observed], role: Role) -> set[str]:
    """The services of a role that have a run which is ready."""
    return {
        name
        for name, seen in observed.items()
        if any(one.role is role and one.state is ServiceState.READY for one in seen.current)
    }
