"""The same command on several hosts: side by side, what is needed first, one result each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from voiceops.cli.command import Report, Run, show_error
from voiceops.errors import CallsInProgressError, ServiceError, UnreachableError, VoiceopsError

if TYPE_CHECKING:
    from voiceops.model.settings import Host
    from voiceops.stack.operations import Stack
    from voiceops.stack.results import Progress

T = TypeVar("T")


@dataclass(slots=True)
class Outcomes(Generic[T]):
    """What came of each host; of one host alone an error is raised instead."""

    values: dict[str, T] = field(default_factory=dict)
    errors: dict[str, VoiceopsError] = field(default_factory=dict)

    def report(self, run: Run, report: Report) -> Report:
        """``report`` of the values, and the errors of the other hosts with the gravest exit code."""
        if not self.errors:
            return report
        data: dict[str, Any] = dict(report.data)
        hosts = dict(data.get("hosts", {}))
        for name, error in self.errors.items():
            hosts[name] = {"ok": False, "error": error.as_json()}
            if not run.json:
                show_error(error, as_json=False, invocation=run.invocation)
        data["hosts"] = hosts
        code = max(error.exit_code for error in self.errors.values())
        return Report(data, report.text, max(code, report.exit_code))


def on_stacks(
    run: Run,
    work: Callable[[Host, Stack], T],
    *,
    progress: Progress | None = None,
    first_needed: bool = True,
    among: Container[str] | None = None,
    until_one_fails: bool = False,
) -> Outcomes[T]:
    """``work`` on the stack of each selected host, or of those ``among`` them.

    Hosts that others need come first, or last with ``first_needed=False``; those of one tier side by
    side, or one after the other ``until_one_fails``. A host that is down does not stop the others.
    """
    several = len(run.project.hosts) > 1

    def on_stack(host: Host) -> T:
        shown: Progress = progress or (lambda service, state, words: None)
        if several:
            shown = _named(host.name, shown)
        stack = run.project.stack(host, progress=shown, say=run.say)
        try:
            return work(host, stack)
        finally:
            stack.close()

    return on_each(run, on_stack, first_needed=first_needed, among=among, until_one_fails=until_one_fails)


def one_at_a_time(run: Run, work: Callable[[Host], T]) -> Outcomes[T]:
    """As ``on_each``, one host after the other: for what acts on a LiveKit that hosts may share."""
    return on_each(run, work, side=_in_turn)


def on_each(
    run: Run,
    work: Callable[[Host], T],
    *,
    first_needed: bool = True,
    among: Container[str] | None = None,
    until_one_fails: bool = False,
    side: Callable[[Callable[[Host], None], Iterable[Host]], None] | None = None,
) -> Outcomes[T]:
    """``work`` for each selected host, in the same order and with the same manners."""
    from voiceops.fleet.order import tiers

    hosts = run.project.hosts
    outcomes: Outcomes[T] = Outcomes()

    def one(host: Host) -> None:
        try:
            outcomes.values[host.name] = work(host)
        except VoiceopsError as error:
            outcomes.errors[host.name] = error

    chosen = [host for host in hosts if among is None or host.name in among]
    order = tiers(chosen) if len(hosts) > 1 else [list(hosts)]
    if until_one_fails:
        order = [[host] for tier in order for host in tier]
    for tier in order if first_needed else reversed(order):
        stayed = _up(outcomes)
        if stayed and (until_one_fails or not first_needed):
            # What still runs there needs these: a Redis must not go before its servers.
            why = (
                f"left as it is, because {stayed[0]} failed"
                if first_needed
                else f"not stopped, because {stayed[0]} did not stop and comes before it"
            )
            for host in tier:
                outcomes.errors[host.name] = ServiceError(f"{host.name}: {why}")
            continue
        (side or side_by_side)(one, tier)
    if len(hosts) == 1 and outcomes.errors:
        raise next(iter(outcomes.errors.values()))
    outcomes.values = {
        host.name: outcomes.values[host.name] for host in hosts if host.name in outcomes.values
    }
    return outcomes


def named_on(hosts: Sequence[Host], only: Sequence[str]) -> dict[str, list[str]]:
    """The named services, for each host that runs one of them; without a name all hosts, with an empty list.

    ``UsageError`` for a name that is on none of several hosts; a host alone answers for itself.
    """
    from voiceops.errors import UsageError
    from voiceops.fleet.order import services_of

    if not only or len(hosts) == 1:
        return {host.name: list(only) for host in hosts}
    running = {host.name: services_of(host) for host in hosts}
    known = set().union(*running.values())
    for name in only:
        if name not in known:
            raise UsageError(
                f"no service {name!r} on these hosts",
                hint=f"they run: {', '.join(sorted(known)) or 'none'}",
            )
    own = {host: [name for name in only if name in names] for host, names in running.items()}
    return {host: chosen for host, chosen in own.items() if chosen}


def refuse_all(run: Run, look: Callable[[Host, Stack], None], among: Container[str]) -> None:
    """Ask everywhere before anything ends anywhere: a call that one host would drop keeps all of them."""
    first = on_stacks(run, look, among=among)
    for error in first.errors.values():
        if isinstance(error, CallsInProgressError):
            raise error


def _up(outcomes: Outcomes[T]) -> list[str]:
    """Hosts that were reached and failed."""
    return [name for name, error in outcomes.errors.items() if not isinstance(error, UnreachableError)]


def _in_turn(work: Callable[[Host], None], hosts: Iterable[Host]) -> None:
    for host in hosts:
        work(host)


def _named(host: str, progress: Progress) -> Progress:
    return lambda service, state, words: progress(f"{host} {service}", state, words)


def side_by_side(work: Callable[[Host], None], hosts: Iterable[Host]) -> None:
    """One thread for each host; a bug in one is raised when all are through."""
    bugs: list[BaseException] = []

    def guarded(host: Host) -> None:
        try:
            work(host)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            bugs.append(error)

    chosen = list(hosts)
    if len(chosen) == 1:
        work(chosen[0])
        return
    threads = [threading.Thread(target=guarded, args=(host,), daemon=True) for host in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if bugs:
        raise bugs[0]
