"""Releases of servers: go back, list, lock, render."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from voiceops.cli.command import CommandRun, Report, names
from voiceops.cli.flags import RollbackFlags
from voiceops.commands.deploy_reporter import DeployReporter
from voiceops.commands.deploy_view import DeployView
from voiceops.commands.documents import host_failure
from voiceops.commands.hosts import named_on
from voiceops.deploy.desired import host_outline
from voiceops.deploy.facts_cache import FactsCache
from voiceops.deploy.fleet import Fleet, HostRun
from voiceops.deploy.host_states import HostStates
from voiceops.deploy.ledger import Ledger, read_ledger
from voiceops.deploy.rendered import masked_settings, rendered_files, write_files
from voiceops.deploy.rollback import RollbackOptions, RollbackResult, prove_again, roll_back
from voiceops.errors import ServiceError, UsageError
from voiceops.fleet.order import batches, serial_of, servers
from voiceops.fleet.run import go_on, skip_after_failures
from voiceops.kinds.model import Declared
from voiceops.model import timeouts
from voiceops.model.history import DeployRecord, record_id
from voiceops.resources import Lease, default_owner, read_facts, release_lock, take_lock
from voiceops.systemd.names import HostNames
from voiceops.util.times import iso_time
from voiceops.wiring.deploy import host_stacks, proof_calls
from voiceops.wiring.fleet import open_fleet

if TYPE_CHECKING:
    from voiceops.model.documents.common import HostFailure
    from voiceops.model.documents.servers import (
        LockDocument,
        LockedHost,
        ReleaseEntry,
        ReleasesDocument,
        ReleasesHost,
        RenderDocument,
        RenderedHost,
        RollbackDocument,
        RolledBackHost,
    )
    from voiceops.remote.messages import HeldLease

T = TypeVar("T")


def _fleet(
    run: CommandRun,
    what: str,
    work: Callable[[HostRun], None],
    cut: Callable[[Sequence[HostRun]], Sequence[Sequence[HostRun]]] = lambda runs: [runs],
    max_fail: int | None = None,
) -> Fleet:
    """``work`` on all selected hosts, batch by batch as ``cut`` has it; errors stay with their hosts."""

    fleet = open_fleet(servers(run.project.hosts, what=what), on_done=DeployView(run, what).done)
    try:
        fleet.run(work, cut(fleet.runs), go_on if max_fail is None else skip_after_failures(max_fail))
    finally:
        fleet.close()
    return fleet


def _hosts(fleet: Fleet, found: Mapping[str, T]) -> dict[str, T | HostFailure]:
    return {run.name: found[run.name] if run.ok else _failure(run) for run in fleet.runs}


def _failure(run: HostRun) -> HostFailure:
    error = run.error or ServiceError(f"{run.name}: {run.skipped}")
    return host_failure(error, skipped=run.skipped)


def _records(fleet: Fleet, found: Mapping[str, RolledBackHost], began: float) -> Sequence[DeployRecord]:
    return [
        DeployRecord(
            id=record_id("rollback", one.name, began),
            host=one.name,
            at=began,
            action="rollback",
            ok=one.error is None,
            release=",".join(back["release"] for back in host["services"].values()) if host else "",
            changed_count=host["changed_count"] if host else 0,
            by=default_owner(),
            detail=one.error.message if one.error else "",
            took_s=round(time.time() - began, 3),
        )
        for one in fleet.runs
        if ((host := found.get(one.name)) is not None and host["changed_count"]) or one.error is not None
    ]


def rollback(run: CommandRun, flags: RollbackFlags) -> Report:
    """Bring the agents of the selected servers back to an earlier release: one host ahead, then batch by batch.

    No caller reaches a release before it has answered a call, unless calls are left out.
    """
    stacks = host_stacks(run.project, DeployView(run, "rollback"))
    calls = proof_calls(run.project, run.say)
    found: dict[str, RolledBackHost] = {}
    own = named_on(run.project.hosts, names(flags.only))
    outlines = {host.name: host_outline(host.settings) for host in run.project.hosts}
    with_agents = _hosts_with_agents(outlines, own)
    if not with_agents and len(outlines) > 1:
        raise UsageError(
            f"none of these hosts runs {'such ' if flags.only else ''}an agent",
            hint="`inv status` shows what runs where",
        )

    def work(one: HostRun) -> None:
        if with_agents and one.name not in with_agents:
            found[one.name] = {"ok": True, "changed_count": 0, "services": {}}  # it has another role
            return
        chosen = own.get(one.name, names(flags.only))
        agents = chosen or [each.name for each in outlines[one.name] if each.is_agent]
        done = roll_back(
            one,
            outlines[one.name],
            stacks,
            RollbackOptions(
                only=chosen,
                to=dict.fromkeys(agents, flags.to) if flags.to else {},
                by=default_owner(),
                wait_s=flags.wait,
                timeout_s=run.timeout or timeouts.DEPLOY_S,
                even_bad=run.yes,
                drop_calls=run.yes,
            ),
            prove=prove_again(calls, one, run.say)
            if not flags.no_call and one.host.settings.deploy.call
            else None,
        )
        found[one.name] = _rolled_back(done)

    began = time.time()
    reporter = DeployReporter(run, "rollback", by=default_owner())
    reporter.started([host.name for host in run.project.hosts if host.name in with_agents])
    settings = run.project.hosts[0].settings.deploy
    size = serial_of(flags.serial) if flags.serial else settings.serial

    def cut(runs: Sequence[HostRun]) -> list[list[HostRun]]:
        return _batches(runs, with_agents, size)

    fleet = _fleet(run, "rollback", work, cut, flags.max_fail if flags.max_fail >= 0 else settings.max_fail)
    reporter.ended(_records(fleet, found, began))
    rolled_back: RollbackDocument = {
        "changed_count": sum(one["changed_count"] for one in found.values()),
        "hosts": _hosts(fleet, found),
    }
    return Report(rolled_back, _rollback_text(fleet, found), fleet.exit_code())


def _rolled_back(done: RollbackResult) -> RolledBackHost:
    return {
        "ok": True,
        "changed_count": sum(result.changed for result in done.services.values()),
        "services": {
            name: {"before": before, "release": after, **done.services[name].as_json()}
            for name, (before, after) in done.releases.items()
        },
    }


def _batches(runs: Sequence[HostRun], with_agents: set[str], size: int | str) -> list[list[HostRun]]:
    """Those with agents as ``batches`` cuts them; the others, to which nothing happens, come last."""
    named = {one.name: one for one in runs}
    hosts = [one.host for one in runs if one.name in with_agents] or [one.host for one in runs]
    cut = [[named.pop(host.name) for host in batch] for batch in batches(hosts, size)]
    return [*cut, list(named.values())] if named else cut


def _rollback_text(fleet: Fleet, found: Mapping[str, RolledBackHost]) -> str:
    lines = [
        f"{host}: {name}: {one['before']} -> {one['release']}"
        for host, document in found.items()
        for name, one in document["services"].items()
    ]
    if lines:
        lines.append(
            "the inventory still declares what was deployed: change it, or `inv deploy --yes` brings it back"
        )
    lines += [f"{one.name}: not touched: {one.skipped}" for one in fleet.runs if one.skipped]
    return "\n".join(lines)


def _hosts_with_agents(outlines: Mapping[str, Sequence[Declared]], own: Mapping[str, list[str]]) -> set[str]:
    """The hosts that run one of the agents named for them; without a name, any agent."""
    return {
        host
        for host in own
        if any(one.is_agent and (not own[host] or one.name in own[host]) for one in outlines[host])
    }


def releases(run: CommandRun) -> Report:
    """The history of each server, and which release serves."""
    ledgers: dict[str, Ledger] = {}

    def work(one: HostRun) -> None:
        ledgers[one.name] = read_ledger(one.transport, HostNames(one.host.settings.project))

    fleet = _fleet(run, "releases", work)
    rows = {host: _rows(ledger) for host, ledger in ledgers.items()}
    found: dict[str, ReleasesHost] = {
        host: {
            "ok": True,
            "releases": rows[host],
            "current": {
                service: {"release": one["release"], "digest": one["digest"]}
                for service, one in ledger.current.items()
            },
            "unproved": ledger.unproved,
        }
        for host, ledger in ledgers.items()
    }
    document: ReleasesDocument = {"hosts": _hosts(fleet, found)}
    lines: list[str] = []
    for host, listed in rows.items():
        lines.append(f"{host}:" if listed else f"{host}: nothing was deployed yet")
        lines += [
            f"  {row['at']}  {row['service']:<10} {row['release']}  {row['result']:<8} {row['state']:<8}"
            f" {row['action']} by {row['by']}{' - ' + row['reason'] if row['reason'] else ''}"
            for row in listed
        ]
        if ledgers[host].unproved:
            lines.append(f"  what runs is not proved: {ledgers[host].unproved}")
    return Report(document, "\n".join(line.rstrip() for line in lines), fleet.exit_code())


def _rows(ledger: Ledger) -> list[ReleaseEntry]:
    rows: list[ReleaseEntry] = []
    for entry in ledger.history:
        current = ledger.current.get(entry.service, {}).get("release")
        state: Literal["current", "kept", "gone"] = (
            "current" if entry.release == current else "kept" if entry.release in ledger.present else "gone"
        )
        rows.append(
            {
                "at": iso_time(entry.at),
                "service": entry.service,
                "release": entry.release,
                "result": entry.result,
                "state": state,
                "action": entry.action,
                "by": entry.by,
                "reason": entry.why,
            }
        )
    return rows


def lock(run: CommandRun, *, reason: str, minutes: float) -> Report:
    """Take the lock of each server for that long."""
    if not 0 < minutes <= 7 * 24 * 60:
        raise UsageError("--minutes is more than 0 and at most a week")
    owner = default_owner().partition(" (pid")[0]

    found: dict[str, LockedHost] = {}

    def work(one: HostRun) -> None:
        lease = Lease(owner=owner, reason=reason or "inv lock", lease_s=minutes * 60)
        take_lock(one.transport, one.host.settings.project, lease)
        found[one.name] = {
            "ok": True,
            "changed": True,
            "locked": True,
            "owner": lease.owner,
            "reason": lease.reason,
            "expires_at": iso_time(time.time() + lease.lease_s),
        }

    fleet = _fleet(run, "lock", work)
    text = "\n".join(f"{one.name}: locked for {minutes:g} minutes" for one in fleet.runs if one.ok)
    document: LockDocument = {"changed_count": len(found), "hosts": _hosts(fleet, found)}
    return Report(document, text, fleet.exit_code())


def unlock(run: CommandRun) -> Report:
    """Release the lock of each server, whoever holds it."""
    held: dict[str, HeldLease | None] = {}

    def work(one: HostRun) -> None:
        project = one.host.settings.project
        held[one.name] = read_facts(one.transport, project)["lease"]
        release_lock(one.transport, project, force=True)

    fleet = _fleet(run, "unlock", work)
    free = {one.name: held[one.name] for one in fleet.runs if one.ok}
    found: dict[str, LockedHost] = {
        name: {
            "ok": True,
            "changed": bool(lease),
            "locked": False,
            "owner": lease["owner"] if lease else "",
            "reason": lease["reason"] if lease else "",
            "expires_at": None,
        }
        for name, lease in free.items()
    }
    document: LockDocument = {"changed_count": sum(map(bool, free.values())), "hosts": _hosts(fleet, found)}
    return Report(document, "\n".join(map(_freed, free, free.values())), fleet.exit_code())


def _freed(name: str, lease: HeldLease | None) -> str:
    if not lease:
        return f"{name}: was not locked"
    reason = f" ({lease['reason']})" if lease["reason"] else ""
    return f"{name}: unlocked, it was held by {lease['owner']}{reason}"


def render(run: CommandRun, *, out: str) -> Report:
    """The files that a deploy would write, printed or written below ``out``."""
    facts, states = FactsCache(run.project.root), HostStates(run.project.configuration, run.say)
    texts: dict[str, dict[str, str]] = {}

    def work(one: HostRun) -> None:
        known = facts.read(one.host) or facts.learn(one.host, one.transport)
        host = one.host
        masked = msgspec.structs.replace(host, settings=masked_settings(host.settings))
        texts[one.name] = rendered_files(
            states.of(host, known),
            states.of(masked, known),
            host.settings,
        )

    fleet = _fleet(run, "render", work)
    if out:
        for host, files in texts.items():
            left = write_files(Path(out) / host, files)
            if left:
                run.say(f"{Path(out) / host}: also holds what is none of these, such as {left[0]}")
    lines = []
    for host, files in sorted(texts.items()):
        for path, text in files.items():
            lines += [f"{Path(out) / host}{path}"] if out else [f"== {host}:{path}", text.rstrip("\n")]
    found: dict[str, RenderedHost] = {
        host: {"ok": True, "files": {path: {"text": text} for path, text in files.items()}}
        for host, files in texts.items()
    }
    document: RenderDocument = {"hosts": _hosts(fleet, found)}
    return Report(document, "\n".join(lines), fleet.exit_code())
