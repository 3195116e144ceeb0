"""Take agents of servers back to an earlier release: by a person, or by a deploy of many hosts that has failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from voiceops.deploy import ledger
from voiceops.deploy.agent_calls import ProofCalls
from voiceops.deploy.fleet import Fleet, HostRun
from voiceops.deploy.host_stacks import HostStacks
from voiceops.deploy.proof import prove_agent, read_release_log
from voiceops.errors import ConfigError, RollbackEntry, ServiceError, UsageError
from voiceops.fleet.run import HostResult, skip_after_failures
from voiceops.kinds.model import Declared
from voiceops.resources import Lease, locked
from voiceops.stack import operations
from voiceops.stack.reconcile import choose
from voiceops.stack.results import Results
from voiceops.stack.stack import Prove
from voiceops.systemd.names import HostNames


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackOptions:
    """Which agents go back where, and by whom."""

    by: str
    wait_s: float
    timeout_s: float
    only: Sequence[str] = ()
    """Empty: all agents of the host."""
    to: Mapping[str, str] = field(default_factory=dict)
    """Service to its release; one that is missing goes to its last good release."""
    even_bad: bool = False
    drop_calls: bool = False
    undone_because: str = ""
    """A deploy of many hosts has failed: the release that is left may be good, so it is not marked bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackResult:
    """Where each agent of a host went."""

    services: Results
    releases: Mapping[str, tuple[str, str]]
    """Service to the release before and after."""


def roll_back(
    run: HostRun,
    outline: Sequence[Declared],
    stacks: HostStacks,
    options: RollbackOptions,
    *,
    prove: Prove | None,
) -> RollbackResult:
    """Agents go back, by overlap; the release that they leave is marked bad.

    ``prove``: callers reach a release only once it has passed; what fails there leaves the host as it was. Servers and
    commands stay as they are: their files belong to no release.
    """
    agents = _agents_of(run, outline, options.only)
    names = HostNames(run.host.settings.project)
    lease = Lease(owner=options.by, reason="rollback", wait_s=options.wait_s)
    with locked(run.transport, names.project, lease, stay_s=options.timeout_s):
        known = ledger.read_ledger(run.transport, names, will_record=True)
        moves: dict[str, tuple[str, str]] = {}
        for name in agents:
            now = known.current.get(name, {}).get("release", "")
            to = options.to.get(name, "")
            moves[name] = (now, known.previous(name, to=to, even_bad=options.even_bad))
        services = _with_releases(outline, known, moves)
        results = operations.start(
            replace(stacks.of(run, services), prove=prove),
            only=agents,
            drop_calls=options.drop_calls,
            timeout_s=options.timeout_s,
        )
        ledger.note(run.transport, names, _entries_left(moves, options))
        ledger.record(run.transport, names, services, by=options.by, action="rollback")
    return RollbackResult(services=results, releases=moves)


def _agents_of(run: HostRun, outline: Sequence[Declared], only: Sequence[str]) -> list[str]:
    chosen = choose(outline, only)
    others = [one.name for one in chosen if not one.is_agent]
    agents = [one.name for one in chosen if one.is_agent]
    if only and others:
        raise UsageError(
            f"{others[0]} is no agent: it has no releases to roll back to",
            hint="change its version or settings in the inventory back, then `inv deploy`",
        )
    if not agents:
        raise ConfigError(f"{run.name} runs no agent to roll back", hint="`inv status` shows what runs")
    return agents


def _entries_left(moves: Mapping[str, tuple[str, str]], options: RollbackOptions) -> list[ledger.LedgerEntry]:
    """What the ledger has to say of the releases that were left: no rollback goes to them again."""
    return [
        ledger.LedgerEntry(
            service=name,
            release=left,
            result="unproved" if options.undone_because else "bad",
            by=options.by,
            action="rollback",
            why=options.undone_because or "rolled back from",
        )
        for name, (left, _) in moves.items()
        if left
    ]


def _with_releases(
    outline: Sequence[Declared], known: ledger.Ledger, moves: Mapping[str, tuple[str, str]]
) -> tuple[Declared, ...]:
    found = []
    for one in outline:
        current = known.current.get(one.name, {"release": "", "digest": ""})
        release = moves[one.name][1] if one.name in moves else current["release"]
        digest = release if one.name in moves else current["digest"]
        found.append(replace(one, release=release, digest=digest))
    return tuple(found)


def prove_again(calls: ProofCalls, run: HostRun, say: Callable[[str], None]) -> Prove:
    """Return what calls a release that has served before, by the name it registered; see ``stack.gated_start``.

    Only what speaks against the release keeps it from its callers: whoever rolls back or restarts has a reason to.
    """
    names = HostNames(run.host.settings.project)

    def prove(service: Declared, proof_name: str, ended: Callable[[], bool]) -> None:
        proof = prove_agent(
            service.name,
            lambda name: calls.place(run, service, proof_name, ended),
            lambda: read_release_log(run.transport, names, service),
            shared=False,
            ended=ended,
        )
        if proof.ok:
            return
        if not proof.blames_agent:
            say(f"{run.name}: {service.name}: not proved, callers reach it nevertheless: {proof.cause}")
            return
        raise ServiceError(
            f"{run.name}: release {service.release} of {service.name} failed: {proof.cause}",
            hint=f"`inv why --host {run.name}` looks for the cause; `inv releases` lists what else there is",
            log_tail=proof.log_tail,
            data={"host": run.name, "service": service.name, "raised": proof.raised},
        )

    return prove


def undo_after_failures(
    fleet: Fleet,
    batches: Sequence[Sequence[HostRun]],
    max_fail: int,
    undo: Callable[[HostRun, Mapping[str, str], str], None],
) -> None:
    """Where more hosts have failed than may, take back those whose agents this run has replaced, batch by batch.

    ``undo`` gets the releases that served before, by service. A host that went back has an error that says so.
    """
    results: list[list[HostResult[None]]] = [
        [HostResult(host=run.name, error=run.error) for run in batch if not run.skipped] for batch in batches
    ]
    if not skip_after_failures(max_fail)([batch for batch in results if batch]):
        return
    failed = next(run for batch in batches for run in batch if run.error is not None)
    cause = f"the deploy failed on {failed.name}"

    def go_back(run: HostRun) -> None:
        before = releases_before(run)
        began = time.monotonic()
        ok = False
        try:
            undo(run, before, cause)
            ok = True
        finally:
            entry: RollbackEntry = {"ok": ok, "cause": cause, "took_s": round(time.monotonic() - began, 3)}
        raise ServiceError(
            f"{run.name}: {', '.join(before)} went back to release {', '.join(before.values())}: {cause}",
            hint=f"correct what failed on {failed.name} and deploy again",
            data={"host": run.name, "went_back_to": before, "rollback": entry},
        )

    moved = [[run for run in batch if run.ok and releases_before(run)] for batch in batches]
    fleet.run(go_back, [batch for batch in moved if batch])


def releases_before(run: HostRun) -> dict[str, str]:
    """The releases that this run has replaced on a host, by service."""
    if run.deployed is None or run.planned is None:
        return {}
    found: dict[str, str] = {}
    for name, release in run.deployed.releases.items():
        seen = run.planned.observed.get(name)
        served = [one.release for one in seen.current if not one.proving and one.share == 1] if seen else []
        result = run.deployed.services.get(name)
        if result and result.changed and served and served[0] not in ("", release):
            found[name] = served[0]
    return found
