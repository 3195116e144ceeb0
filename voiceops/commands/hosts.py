"""What commands on several hosts share: the services named, progress, the report of those that failed."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from voiceops.cli.command import CommandRun, Report, show_error
from voiceops.commands.documents import host_failure
from voiceops.errors import CallsInProgressError, UsageError, VoiceopsError
from voiceops.fleet.order import services_of
from voiceops.fleet.run import HostResult, exit_code, run_on
from voiceops.model.settings import Host
from voiceops.stack.reconcile import refuse_unknown
from voiceops.stack.results import Progress, silent
from voiceops.stack.stack import Stack
from voiceops.wiring.stack import build_stack

T = TypeVar("T")


def values_of(run: CommandRun, results: Mapping[str, HostResult[T]]) -> dict[str, T]:
    """The values of the hosts that have one, in the inventory's order.

    For people the error of a host alone is raised, as nothing else is to be said; a document has it under ``hosts``.
    """
    alone = len(run.project.hosts) == 1 and not run.json
    names = [host.name for host in run.project.hosts if host.name in results]
    return {name: results[name].get() for name in names if alone or results[name].ok}


def all_ok(results: Mapping[str, HostResult[T]]) -> bool:
    """Whether no host failed or was skipped; what the values say is another matter."""
    return all(result.ok for result in results.values())


def with_problems(run: CommandRun, results: Mapping[str, HostResult[T]], report: Report) -> Report:
    """``report`` of the values, and the errors of the other hosts; the highest exit code of all decides."""
    problems = {host: one.problem for host, one in results.items() if one.problem is not None}
    if not problems:
        return report
    hosts = report.data["hosts"]
    assert isinstance(hosts, dict), "what acts on several hosts reports on each of them"
    for problem in problems.values() if not run.json else ():
        show_error(problem, as_json=False, invocation=run.invocation)
    failed = {name: host_failure(one, skipped=results[name].skipped) for name, one in problems.items()}
    data = {**report.data, "hosts": {**hosts, **failed}}
    return Report(data, report.text, exit_code(results.values(), report.exit_code))


@contextmanager
def stack_on(run: CommandRun, host: Host, progress: Progress = silent) -> Iterator[Stack]:
    """The stack of one host, closed in the end; of several hosts each says its name in ``progress``."""
    shown = progress if len(run.project.hosts) == 1 else _named(host.name, progress)
    stack = build_stack(run.project, host, progress=shown, say=run.say)
    try:
        yield stack
    finally:
        stack.close()


def chosen_hosts(run: CommandRun, among: Container[str]) -> list[Host]:
    """The selected hosts that are ``among`` these."""
    return [host for host in run.project.hosts if host.name in among]


def named_on(hosts: Sequence[Host], only: Sequence[str]) -> dict[str, list[str]]:
    """The named services, for each host that runs one of them; without a name all hosts, with an empty list.

    ``UsageError`` for a name that is on none of them.
    """
    if not only:
        return {host.name: [] for host in hosts}
    running = {host.name: services_of(host) for host in hosts}
    known = set().union(*running.values())
    if len(hosts) == 1:
        refuse_unknown(only, known)
    for name in only:
        if name not in known:
            raise UsageError(
                f"no service {name!r} on these hosts",
                hint=f"they run: {', '.join(sorted(known)) or 'none'}",
            )
    own = {host: [name for name in only if name in names] for host, names in running.items()}
    return {host: chosen for host, chosen in own.items() if chosen}


def failed(run: CommandRun, document: Mapping[str, object], error: VoiceopsError) -> Report:
    """Raise an error that no single host has; a document keeps beside it what is known of the hosts."""
    if not run.json:
        raise error
    return Report({**document, "error": error.as_json()}, exit_code=error.exit_code)


def refuse_all(
    run: CommandRun, hosts: Sequence[Host], refuse: Callable[[Host, Stack], None]
) -> dict[str, HostResult[T]]:
    """Ask everywhere before anything ends anywhere: a call that one host would drop keeps all of them.

    Raises the refusal for people; for a document returns it with the hosts that are skipped for it, else nothing.
    """

    def ask(host: Host) -> None:
        with stack_on(run, host) as stack:
            refuse(host, stack)

    for result in run_on([hosts], ask).values():
        if isinstance(result.error, CallsInProgressError):
            if not run.json:
                raise result.error
            reason = f"left as it is, because {result.host} has calls in progress"
            refused: dict[str, HostResult[T]] = {
                host.name: HostResult(host=host.name, skipped=reason) for host in hosts
            }
            refused[result.host] = HostResult(host=result.host, error=result.error)
            return refused
    return {}


def _named(host: str, progress: Progress) -> Progress:
    return lambda service, state, words: progress(f"{host} {service}", state, words)
