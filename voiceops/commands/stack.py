"""Start, stop and check the services of the selected hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from voiceops.cli.command import CommandRun, Report, names
from voiceops.commands.hosts import (
    all_ok,
    chosen_hosts,
    failed,
    named_on,
    refuse_all,
    stack_on,
    values_of,
    with_problems,
)
from voiceops.commands.interrupted import reporting_interrupt
from voiceops.commands.local_limits import lines_of
from voiceops.commands.short_secrets import warn_of_short_secrets
from voiceops.commands.stack_view import (
    live_progress,
    results_text,
    show_status,
    verdicts_text,
)
from voiceops.commands.status import status_of
from voiceops.errors import UsageError, VoiceopsError
from voiceops.fleet.order import start_order, stop_order
from voiceops.fleet.run import HostResult, go_on, run_on, skip_after_failure
from voiceops.model import timeouts
from voiceops.model.roles import Role
from voiceops.model.settings import Host
from voiceops.stack import operations
from voiceops.stack.model import ServiceVerdict
from voiceops.stack.reconcile import choose
from voiceops.stack.results import Results
from voiceops.stack.stack import Stack

if TYPE_CHECKING:
    from voiceops.model.documents.stack import (
        CheckedHost,
        CheckRunningDocument,
        StackDocument,
        StatusDocument,
    )


class Renewal(Protocol):
    """How hosts are restarted (``commands/restart.py``)."""

    def proved(self, host: Host, stack: Stack) -> Stack:
        """The stack of a host, with what its new agents have to show before callers reach them."""

    def run(self, hosts: Sequence[Host], work: Callable[[Host], Results]) -> dict[str, HostResult[Results]]:
        """Run ``work`` for the hosts, batch after batch."""


def start(
    run: CommandRun,
    *,
    only: str,
    verify: bool,
    drain: float = -1.0,
    replace: bool = False,
    renew: Renewal | None = None,
) -> Report:
    """Make the services run as declared; with ``renew`` restart them, batch after batch.

    ``drain`` below 0: a server with calls is not ended.
    """

    chosen = named_on(run.project.hosts, names(only))
    hosts = chosen_hosts(run, chosen)
    if renew and len(run.project.hosts) > 1 and not run.yes and drain < 0:
        refused: dict[str, HostResult[Results]] = refuse_all(
            run,
            hosts,
            lambda host, stack: operations.refuse_to_drop(stack, only=chosen[host.name], renew=True),
        )
        if refused:
            return with_problems(run, refused, Report(_stack_document({})))
    with reporting_interrupt(run, go_on="start"), live_progress(run) as progress:

        def start_on(host: Host) -> Results:
            with stack_on(run, host, progress) as stack:
                return operations.start(
                    renew.proved(host, stack) if renew else stack,
                    only=chosen[host.name],
                    replace_strays=replace,
                    drop_calls=run.yes,
                    drain_s=drain if drain >= 0 else None,
                    renew=renew is not None,
                    timeout_s=run.timeout or timeouts.START_S,
                )

        done = renew.run(hosts, start_on) if renew else run_on(start_order(hosts), start_on, skip_rest=go_on)
    found = values_of(run, done)
    local = all(host.local for host in hosts)
    warn_of_short_secrets(run, chosen_hosts(run, found), then="start" if local else "deploy")
    for host in hosts:
        for line in lines_of(host, found.get(host.name, {})):
            run.say(line)
    data = _stack_document(found)
    if verify and all_ok(done):
        from voiceops.commands.verify import verified_call

        try:
            data["call"] = verified_call(run)
        except VoiceopsError as error:
            return failed(run, data, error)
    agents = any(host.settings.runs(Role.AGENT) for host in run.project.hosts)
    text = results_text(found, "restart" if renew else "start", data.get("call"), agents=agents)
    return with_problems(run, done, Report(data, text))


def _stack_document(results: Mapping[str, Results]) -> StackDocument:
    return {
        "changed_count": sum(result.changed for per_host in results.values() for result in per_host.values()),
        "hosts": {
            host: {"ok": True, "services": {name: result.as_json() for name, result in per_host.items()}}
            for host, per_host in results.items()
        },
    }


def stop(run: CommandRun, *, only: str, drain: float, now: bool) -> Report:
    """Stop the services in reverse order; ``drain`` below 0 stands for what the inventory says."""

    if now and drain >= 0:
        raise UsageError("stop: --now and --drain contradict each other", hint="leave one of them out")

    chosen = named_on(run.project.hosts, names(only))
    hosts = chosen_hosts(run, chosen)
    if len(run.project.hosts) > 1 and not run.yes and drain < 0:
        refused: dict[str, HostResult[Results]] = refuse_all(
            run, hosts, lambda host, stack: operations.refuse_to_drop(stack, only=chosen[host.name])
        )
        if refused:
            return with_problems(run, refused, Report(_stack_document({})))
    with reporting_interrupt(run, go_on="stop"), live_progress(run) as progress:

        def stop_on(host: Host) -> Results:
            with stack_on(run, host, progress) as stack:
                return operations.stop(
                    stack,
                    only=chosen[host.name],
                    drain_s=drain if drain >= 0 else None,
                    now=now,
                    drop_calls=run.yes,
                    final=True,
                    timeout_s=run.timeout or timeouts.START_S,
                )

        # What still runs there needs the next ones: a Redis must not go before its servers.
        skip = skip_after_failure("not stopped, because {host} did not stop and comes before it")
        done = run_on(stop_order(hosts), stop_on, skip_rest=skip)
    found = values_of(run, done)
    return with_problems(run, done, Report(_stack_document(found), results_text(found, "stop", None)))


def check_running(run: CommandRun, *, only: str) -> Report:
    """Compare what runs with what is declared; change nothing."""

    chosen = named_on(run.project.hosts, names(only))

    def check_on(host: Host) -> dict[str, ServiceVerdict]:
        own = chosen[host.name]
        with stack_on(run, host) as stack:
            choose(stack.outline, own)
            verdicts = operations.check(stack)
        return {name: one for name, one in verdicts.items() if not own or name in own}

    done = run_on([chosen_hosts(run, chosen)], check_on)
    found = values_of(run, done)
    document: CheckRunningDocument = {"hosts": {host: _checked(one) for host, one in found.items()}}
    ok = all(verdict.ok for verdicts in found.values() for verdict in verdicts.values())
    return with_problems(run, done, Report(document, verdicts_text(found), exit_code=0 if ok else 2))


def _checked(verdicts: Mapping[str, ServiceVerdict]) -> CheckedHost:
    return {
        "ok": all(verdict.ok for verdict in verdicts.values()),
        "services": {
            name: {"state": verdict.state, "pids": list(verdict.pids), "detail": verdict.detail}
            for name, verdict in verdicts.items()
        },
    }


def status(run: CommandRun, *, watch: bool) -> Report:
    """Services, releases, rooms and calls of each host, once or until Ctrl-C."""

    if watch and run.json:
        raise UsageError(
            "--watch and --json contradict each other",
            hint="run `inv status --json` as often as you want a document",
        )
    if watch:
        # The history and asyncio: no other command of the stack needs them.
        from voiceops.commands.watch import watch_status

        watch_status(run)
        return Report({})
    done = status_of(run)
    found = values_of(run, done)
    document: StatusDocument = {"hosts": {**found}}
    return with_problems(run, done, Report(document, lambda: show_status(document)))
