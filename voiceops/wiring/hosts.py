"""What acts on hosts: transports from the inventory, and resources brought to many hosts at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from voiceops.fleet.run import HostResult
    from voiceops.model.settings import Host
    from voiceops.ports import Transport
    from voiceops.resources import HostReport, Resource


def transports_to(hosts: Sequence[Host], *, accept_new: bool = False) -> list[Transport]:
    """One per host, not connected yet; ``ConfigError`` for variables that make no sense."""
    from voiceops.adapters.ssh.transports import transport_to

    return [transport_to(host, accept_new=accept_new) for host in hosts]


def bring(
    hosts: Sequence[Host],
    resources: Callable[[Host], Sequence[Resource]],
    *,
    reason: str,
    check: bool = False,
    diff: bool = False,
    accept_new: bool = False,
    wait_s: float = 0.0,
    on_done: Callable[[HostResult[HostReport]], None] = lambda result: None,
) -> dict[str, HostResult[HostReport]]:
    """Bring every host to the resources that ``resources`` lists for it; one outcome each, in order.

    Connecting and making the states go on side by side; no host is asked for anything before the
    states of all are checked. Safe to call again at any time.
    """
    from concurrent.futures import ThreadPoolExecutor

    from voiceops.fleet.run import on_hosts
    from voiceops.resources import Lease, State, apply
    from voiceops.resources import check as check_only

    def checked_states() -> dict[str, State]:
        made = {host.name: State(host.settings.project, tuple(resources(host))) for host in hosts}
        for state in made.values():
            _ = state.specs  # a mistake in the last host's resources must not come up after the first changed
        return made

    transports = transports_to(hosts, accept_new=accept_new)
    with ThreadPoolExecutor(1) as pool:
        states = pool.submit(checked_states)

        def work(transport: Transport) -> HostReport:
            transport.open()
            state = states.result()[transport.name]
            if check:
                return check_only(transport, state, diff=diff)
            return apply(transport, state, diff=diff, lease=Lease(reason=reason, wait_s=wait_s))

        outcomes = on_hosts(transports, work, on_done=on_done)
        states.result()  # a mistake in the resources is the command's, not a host's
        return outcomes
