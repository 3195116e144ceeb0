"""Bring hosts to a list of resources, and report what changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from voiceops.adapters.ssh.transports import transport_to
from voiceops.cli.command import CommandRun, Report
from voiceops.commands.documents import host_failure
from voiceops.fleet.run import HostResult, exit_code, on_hosts
from voiceops.model.settings import Host
from voiceops.ports import Transport
from voiceops.resources import HostReport, Lease, Resource, ResourceResult, State, apply
from voiceops.resources import check as check_only

if TYPE_CHECKING:
    from voiceops.model.documents.common import HostFailure
    from voiceops.model.documents.servers import ResourcesDocument, ResourcesHost


def bring_hosts(
    run: CommandRun, resources: Callable[[Host], Sequence[Resource]], *, reason: str, accept_new: bool = False
) -> Report:
    """Bring the selected hosts to what ``resources(host)`` lists; see ``voiceops.tasks.resources``."""

    def progress(outcome: HostResult[HostReport]) -> None:
        run.say(f"{outcome.host}: {_words(outcome, check=run.check)}")

    outcomes = bring(
        run.project.hosts,
        resources,
        reason=reason,
        check=run.check,
        diff=run.diff,
        accept_new=accept_new,
        on_done=progress,
    )
    document: ResourcesDocument = {
        "check": run.check,
        "changed_count": sum(one.value.changed for one in outcomes.values() if one.value is not None),
        "hosts": {name: _host(outcome, check=run.check) for name, outcome in outcomes.items()},
    }
    reports = [outcome.get() for outcome in outcomes.values() if outcome.ok]
    code = exit_code(outcomes.values(), _code(reports, check=run.check))
    return Report(document, _text(outcomes, check=run.check), code)


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

    def checked_states() -> dict[str, State]:
        made = {host.name: State(host.settings.project, tuple(resources(host))) for host in hosts}
        for state in made.values():
            _ = state.specs  # a mistake in the last host's resources must not come up after the first changed
        return made

    transports = [transport_to(host, accept_new=accept_new) for host in hosts]
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


def _host(outcome: HostResult[HostReport], *, check: bool) -> ResourcesHost | HostFailure:
    if outcome.error is not None:
        return host_failure(outcome.error)
    report = outcome.get()
    return {
        "ok": report.as_declared if check else report.ok,
        "changed_count": report.changed,
        "resources": [result.as_json() for result in report.results],
    }


def _code(reports: Sequence[HostReport], *, check: bool) -> int:
    """1 where a resource failed, 2 where a check found differences."""
    if not all(report.ok for report in reports):
        return 1
    return 2 if check and not all(report.as_declared for report in reports) else 0


def _words(outcome: HostResult[HostReport], *, check: bool) -> str:
    if outcome.error is not None:
        return f"error: {outcome.error.message}"
    report = outcome.get()
    verb = "would change" if check else "changed"
    counts = [f"{report.changed} {verb}", f"{sum(one.result == 'ok' for one in report.results)} ok"]
    if not report.ok:
        counts.append(f"failed at {report.failed}")
    return ", ".join(counts)


def _text(outcomes: Mapping[str, HostResult[HostReport]], *, check: bool) -> str:
    lines = []
    for name, outcome in outcomes.items():
        if outcome.error is not None:
            lines += [f"{name}: error: {outcome.error.message}"]
            lines += [f"    hint: {outcome.error.hint}"] if outcome.error.hint else []
            continue
        lines += [f"{name}: {_words(outcome, check=check)}"]
        for result in outcome.get().results:
            lines += _result_lines(result)
    return "\n".join(lines)


def _result_lines(result: ResourceResult) -> list[str]:
    if result.result == "ok" and not result.note:
        return []
    lines = [f"  {result.result:8} {result.id}{': ' if result.changes else ''}{'; '.join(result.changes)}"]
    lines += [f"    error: {result.error}"] if result.error else []
    lines += [f"    | {line}" for line in result.log]
    lines += [f"    note: {result.note}"] if result.note else []
    lines += [f"    {line}" for line in result.diff.splitlines()]
    return lines
