"""start, stop, restart, check-running, status, logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voiceops.cli.command import Report, Run, command, names

if TYPE_CHECKING:
    from voiceops.commands.hosts import Outcomes
    from voiceops.model.settings import Host
    from voiceops.stack.model import Verdict
    from voiceops.stack.operations import Stack
    from voiceops.stack.results import Results

_ONLY = {"only": "Services, comma-separated (default: all)."}
_TARGETS = ("host", "group", "limit")


@command(
    *_TARGETS,
    "timeout",
    "yes",
    aliases=("up",),
    help={
        **_ONLY,
        "replace": "End strays gracefully first: what runs one of our services and was not started by us.",
        "verify": "End with a real call that must hear the agent.",
    },
)
def start(run: Run, only: str = "", replace: bool = False, verify: bool = False) -> Report:
    """Make the stack run as declared and wait until each service is ready.

    Starts what is missing, restarts what runs with an old configuration, keeps the rest.
    Safe at any time, twice at once too. Example: inv start --only agent
    """
    return _bring_up(run, "start", only=only, replace=replace, verify=verify, renew=False)


@command(
    *_TARGETS, "timeout", "yes", help={**_ONLY, "verify": "End with a real call that must hear the agent."}
)
def restart(run: Run, only: str = "", verify: bool = False) -> Report:
    """Stop and start what is named; an agent with calls is replaced by overlap.

    Example: inv restart --only agent
    """
    return _bring_up(run, "restart", only=only, replace=False, verify=verify, renew=True)


def _bring_up(run: Run, verb: str, *, only: str, replace: bool, verify: bool, renew: bool) -> Report:
    from voiceops.commands.hosts import named_on, on_stacks, refuse_all
    from voiceops.commands.interrupted import reporting_interrupt
    from voiceops.commands.stack_view import live_progress, results_text
    from voiceops.stack import operations

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
        data["verify"] = _verify(run)
    return done.report(run, Report(data, results_text(done.values, verb, data.get("verify"))))


def _verify(run: Run) -> dict[str, Any]:
    import logging

    from voiceops.calls.text import one_call
    from voiceops.errors import ServiceError
    from voiceops.wiring.doctor import call_to, why_of

    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    heard = call_to(run.project.hosts, why=why_of(run.project))
    data: dict[str, Any] = heard.as_json()
    if heard.ok:
        return data
    causes = (heard.verdict or {}).get("findings") or [{}]
    raise ServiceError(
        f"all services are ready, and yet a call was not answered: {causes[0].get('sentence') or one_call(heard)}",
        hint="fix it, then `inv start --verify` again" if causes[0] else "`inv why` looks for the cause",
        log_tail=tuple(causes[0].get("evidence", ())),
        data={"call": data},
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


@command(
    *_TARGETS,
    "timeout",
    "yes",
    aliases=("down",),
    help={
        **_ONLY,
        "drain": "Seconds that calls in progress may take to end (agents take no new ones).",
        "now": "Kill at once instead of asking; with calls it needs --yes.",
    },
)
def stop(run: Run, only: str = "", drain: float = -1.0, now: bool = False) -> Report:
    """Stop in reverse order, agents before the server, and leave nothing behind.

    Names the calls that it would drop, and then needs --yes or --drain. Example: inv stop --drain 600
    """
    from voiceops.commands.hosts import named_on, on_stacks, refuse_all
    from voiceops.commands.interrupted import reporting_interrupt
    from voiceops.commands.stack_view import live_progress, results_text
    from voiceops.errors import UsageError
    from voiceops.stack import operations

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


@command(*_TARGETS, name="check-running", help=_ONLY)
def check_running(run: Run, only: str = "") -> Report:
    """Is there exactly one live, ready instance of each service? Exit 2 with what is wrong.

    Changes nothing. Example: inv check-running --json
    """
    from voiceops.commands.hosts import named_on, on_stacks
    from voiceops.commands.stack_view import verdicts_text
    from voiceops.stack import operations
    from voiceops.stack.reconcile import choose

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


@command(*_TARGETS, aliases=("ps",), help={"watch": "Draw again and again until Ctrl-C."})
def status(run: Run, watch: bool = False) -> Report:
    """Services, releases, rooms and calls, per host.

    Example: inv status --watch
    """
    from voiceops.commands.stack_view import show_status, status_of, watch_status
    from voiceops.errors import UsageError

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


@command(
    *_TARGETS,
    help={
        **_ONLY,
        "follow": "Go on with new lines until Ctrl-C.",
        "since": "Only lines since then: 90s, 10m, 2h, 1d or an ISO time.",
        "lines": "At most this many of the last lines (0: all; by default 200, with --since all).",
        "raw": "The lines as the services wrote them: not shortened, control characters included.",
    },
)
def logs(
    run: Run, only: str = "", follow: bool = False, since: str = "", lines: int = -1, raw: bool = False
) -> None:
    """Logs of all services, merged by time; rotated files are part of it.

    Example: inv logs --follow --only agent --since 10m
    """
    from voiceops.commands.logs import show_logs

    count = lines if lines >= 0 else 0 if since else 200
    show_logs(run, only=names(only), follow=follow, since=since, count=count, raw=raw)
