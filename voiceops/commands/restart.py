"""Restart the services of the selected hosts: batch after batch, and agents of servers behind a gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TypeVar

from voiceops.adapters.ssh.transports import transport_to
from voiceops.cli.command import CommandRun, Report
from voiceops.cli.flags import RestartFlags
from voiceops.commands import stack as stack_commands
from voiceops.commands.hosts import stack_on
from voiceops.deadline import Deadline
from voiceops.deploy.fleet import HostRun
from voiceops.deploy.rollback import prove_again
from voiceops.errors import ServiceError
from voiceops.fleet.order import batches, serial_of, start_order
from voiceops.fleet.run import HostResult, run_on, skip_after_failure, skip_after_failures
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.settings import Host
from voiceops.stack import operations
from voiceops.stack.room_hooks import send_agents
from voiceops.stack.stack import Stack
from voiceops.wiring.deploy import proof_calls

T = TypeVar("T")

_REGISTER_AGAIN_S = 30.0
_POLL_S = 0.5


def restart(run: CommandRun, flags: RestartFlags) -> Report:
    """Restart what is named; the agents of servers answer a call before callers reach them."""
    renew = Restart(run, serial=flags.serial, max_fail=flags.max_fail, call=not flags.no_call)
    return stack_commands.start(run, only=flags.only, verify=flags.verify, drain=flags.drain, renew=renew)


class Restart:
    """How one run restarts its hosts."""

    def __init__(self, run: CommandRun, *, serial: str, max_fail: int, call: bool) -> None:
        self._run = run
        self._serial = serial_of(serial) if serial else None
        self._max_fail = max_fail
        self._call = call
        self._calls = proof_calls(run.project, run.say)

    def proved(self, host: Host, stack: Stack) -> Stack:
        """The stack whose agents are replaced by overlap, and take callers once they have answered a call."""
        settings = host.settings.deploy
        if host.local or not self._call or not settings.call or settings.overlap == "never":
            return stack

        def prove(service: Declared, proof_name: str, ended: Callable[[], bool]) -> None:
            with closing(transport_to(host)) as transport:
                prove_again(self._calls, HostRun(host, transport, lambda: None), self._run.say)(
                    service, proof_name, ended
                )

        return replace(stack, prove=prove)

    def run(self, hosts: Sequence[Host], work: Callable[[Host], T]) -> dict[str, HostResult[T]]:
        """Run ``work`` batch after batch; without ``--serial`` one host after the other, so one always takes calls."""
        served = self._served(hosts)

        def restart_one(host: Host) -> T:
            done = work(host)
            if host.settings.runs(Role.SERVER):
                others = [one for one in hosts if served.get(one.name)]
                self._wait_for_agents([one for one in others if one is not host], served)
                self._send_agents(host, others)
            return done

        if self._serial is None and self._max_fail == 0:
            skip = skip_after_failure("left as it is, because {host} failed")
            return run_on(start_order(hosts, one_by_one=True), restart_one, skip_rest=skip)
        order = batches(hosts, self._serial or 1)
        return run_on(order, restart_one, skip_rest=skip_after_failures(self._max_fail))

    def _served(self, hosts: Sequence[Host]) -> dict[str, set[str]]:
        """The agents that are ready, by host, where a server is restarted that they register with."""
        if len(hosts) < 2 or not any(host.settings.runs(Role.SERVER) for host in hosts):
            return {}
        found = run_on([[host for host in hosts if host.settings.runs(Role.AGENT)]], self._ready_agents)
        return {name: result.value for name, result in found.items() if result.value}

    def _ready_agents(self, host: Host) -> set[str]:
        with stack_on(self._run, host) as stack:
            return _ready(stack)

    def _send_agents(self, server: Host, hosts: Sequence[Host]) -> None:
        """Send agents of these hosts to who called the restarted server before they had registered again.

        With --yes calls were cut off, whose agents may come back by themselves: none is sent.
        """
        if self._run.yes or not hosts:
            return
        with ExitStack() as open_stacks:
            stack = open_stacks.enter_context(stack_on(self._run, server))
            stacks = [open_stacks.enter_context(stack_on(self._run, host)) for host in hosts]
            send_agents(stack, stacks)

    def _wait_for_agents(self, hosts: Sequence[Host], served: dict[str, set[str]]) -> None:
        """Wait until the agents of other hosts have registered again with a server that was restarted.

        Until then the next server has to stay: the agents that register with it take all calls.
        """
        limit = Deadline(_REGISTER_AGAIN_S, "the agents to register again")
        for host in hosts:
            if not served.get(host.name):
                continue
            with stack_on(self._run, host) as stack:
                while missing := served[host.name] - _ready(stack):
                    if limit.expired:
                        raise ServiceError(
                            f"{', '.join(sorted(missing))} of {host.name} has not registered again within "
                            f"{_REGISTER_AGAIN_S:g} s",
                            hint=f"`inv why --host {host.name}` looks for the cause",
                            data={"host": host.name},
                        )
                    time.sleep(_POLL_S)


def _ready(stack: Stack) -> set[str]:
    agents = {one.name for one in stack.outline if one.is_agent}
    return {name for name, verdict in operations.check(stack).items() if name in agents and verdict.ok}
