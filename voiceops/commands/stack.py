"""Start, stop and check the services of the selected hosts."""

from __future__ import annotations

from typing import Any

from voiceops.cli.command import Report, Run, names
from voiceops.commands.hosts import Outcomes, named_on, on_stacks, refuse_all
from voiceops.commands.interrupted import reporting_interrupt
from voiceops.commands.stack_view import (
    live_progress,
    results_text,
    show_status,
    status_of,
    verdicts_text,
    watch_status,
)
from voiceops.errors import UsageError
from voiceops.model.settings import Host
from voiceops.stack import operations
from voiceops.stack.model import Verdict
from voiceops.stack.operations import Stack
from voiceops.stack.reconcile import choose
from voiceops.stack.results import Results


def start(run: Run, *, only: str, verify: bool, replace: bool = False, renew: bool = False) -> Report:
    """Make the services run as declared; with ``renew`` restart them, host after host."""

    chosen = named_on(run.project.hosts, names(only))

    def work(host: Host, stack: Stack) -> Results:
        return operations.start(
            stack,
            only=chosen[host.name],
            replace_strays=replace,
            drop_calls=run.yes,
            renew=renew,
            timeout_s=run.timeout or operations.DEFAULT_TIMEOUT_S,
        )

    def look(host: Host, stack: Stack) -> None:
        operations.refuse_to_drop(stack, only=chosen[host.name], renew=True)

    if renew and len(run.project.hosts) > 1 and not run.yes:
        refuse_all(run, look, chosen)
    with reporting_interrupt(run, go_on="start"), live_progress(run) as progress:
        # Restarted one after the other, so that there is always one that takes calls.
        done = on_stacks(run, work, progress=progress, among=chosen, until_one_fails=renew)
    data = _results_data(done, several=len(run.project.hosts) > 1)
    if verify and not done.errors:
        from voiceops.commands.verify import verified_call

        data["verify"] = verified_call(run)
    return done.report(
        run, Report(data, results_text(done.values, "restart" if renew else "start", data.get("verify")))
    )


def _results_data(done: Outcomes[Results], *, several: bool) -> dict[str, Any]:
    results = done.values
    flat = {name: result for per_host in results.values() for name, result in per_host.items()}
    changed = sum(result.changed for per_host in results.values() for result in per_host.values())
    data: dict[str, Any] = {"ok": not done.errors, "changed": changed}
    if not several:
        return data | {"services": {name: result.as_json() for name, result in flat.items()}}
    return data | {
        "hosts": {
            host: {"services": {name: result.as_json() for name, result in per_host.items()}}
            for host, per_host in results.items()
        }
    }


def stop(run: Run, *, only: str, drain: float, now: bool) -> Report:
    """Stop the services in reverse order; ``drain`` below 0 stands for what the inventory says."""

    if now and drain >= 0:
        raise UsageError("--now and --drain contradict each other")

    chosen = named_on(run.project.hosts, names(only))

    def look(host: Host, stack: Stack) -> None:
        operations.refuse_to_drop(stack, only=chosen[host.name])

    def work(host: Host, stack: Stack) -> Results:
        return operations.stop(
            stack,
            only=chosen[host.name],
            drain_s=drain if drain >= 0 else None,
            now=now,
            drop_calls=run.yes,
            timeout_s=run.timeout or operations.DEFAULT_TIMEOUT_S,
        )

    if len(run.project.hosts) > 1 and not run.yes and drain < 0:
        refuse_all(run, look, chosen)
    with reporting_interrupt(run, go_on="stop"), live_progress(run) as progress:
        done = on_stacks(run, work, progress=progress, first_needed=False, among=chosen)
    data = _results_data(done, several=len(run.project.hosts) > 1)
    return done.report(run, Report(data, results_text(done.values, "stop", None)))


def check_running(run: Run, *, only: str) -> Report:
    """Compare what runs with what is declared; change nothing."""

    chosen = named_on(run.project.hosts, names(only))

    def work(host: Host, stack: Stack) -> dict[str, Verdict]:
        own = chosen[host.name]
        choose(stack.outline, own)
        verdicts = operations.check(stack)
        return {name: one for name, one in verdicts.items() if not own or name in own}

    done = on_stacks(run, work, among=chosen)
    found = done.values
    ok = all(verdict.ok for verdicts in found.values() for verdict in verdicts.values())
    services = {
        host: {name: _verdict_data(verdict) for name, verdict in verdicts.items()}
        for host, verdicts in found.items()
    }
    data: dict[str, Any] = {"ok": ok and not done.errors}
    if len(run.project.hosts) == 1:
        data["services"] = next(iter(services.values()))
    else:
        data["hosts"] = {host: {"services": per_host} for host, per_host in services.items()}
    return done.report(run, Report(data, verdicts_text(found), exit_code=0 if ok else 2))


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    return {"state": str(verdict.state), "pids": list(verdict.pids), "detail": verdict.detail}


def status(run: Run, *, watch: bool) -> Report:
    """Services, releases, rooms and calls of each host, once or until Ctrl-C."""

    if watch and run.json:
        raise UsageError(
            "--watch and --json contradict each other", hint="call `inv status --json` again and again"
        )
    if watch:
        watch_status(run)
        return Report({})
    done = status_of(run)
    data = {"hosts": done.values}
    return done.report(run, Report(data, lambda: show_status(data)))
