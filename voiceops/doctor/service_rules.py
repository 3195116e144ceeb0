"""Rules about the services beside LiveKit and the agents, and about the disks that they write to."""

from __future__ import annotations

from collections.abc import Iterator

from voiceops.doctor.facts import BrokenService, ChangedService, StackFacts
from voiceops.model.findings import Finding, Fix
from voiceops.model.states import ServiceState
from voiceops.util.words import joined

MIN_FREE_BYTES = 200_000_000


def broken_service(facts: StackFacts) -> Iterator[Finding]:
    """A database, a page or any other service of the stack that is to run."""
    for one in facts.host.broken_services:
        if one.refused:
            continue  # refused_password says it
        sentence, fix = _how_broken(one)
        yield Finding(
            rule="service-down",
            severity="error",
            sentence=sentence,
            evidence=(
                f"service {one.name} is {one.state}" + (f": {one.detail}" if one.detail else ""),
                *(f"its log: {line}" for line in one.log),
            ),
            fixes=(fix,),
            service=one.name,
            by_hand=not fix.action,
            rank=5,
        )


def _how_broken(one: BrokenService) -> tuple[str, Fix]:
    users = f": {joined(one.needed_by)} can't use it" if one.needed_by else ""
    restart = Fix(command=f"inv restart --only {one.name}", action="restart", service=one.name)
    if one.foreign_owner:
        return f"The port of {one.name} belongs to {one.foreign_owner}{users}.", Fix(
            command=f"set the port of {one.name} in inventory.yaml to a free one, then `inv start`", action=""
        )
    if one.oneshot:
        return _unfinished(one)
    if one.state in (ServiceState.MISSING, ServiceState.STALE):
        start = Fix(command=f"inv start --only {one.name}", action="start", service=one.name)
        return f"{one.name} does not run, and nobody has stopped it{users}.", start
    if one.stopped:
        return f"{one.name} is frozen (its process is stopped, state T){users}.", restart
    if one.ended:
        return f"{one.name} has ended, and systemd is about to start it again{users}.", restart
    return f"{one.name} does not do its job ({one.state}){users}.", restart


def _unfinished(one: BrokenService) -> tuple[str, Fix]:
    """A one-shot that has failed, hangs or was killed; only one that may fail now and then is run again unasked."""
    how = "has failed" if one.state is ServiceState.FAILED else "has not completed"
    what = f", {one.detail}" if one.detail else ""
    users = f": {joined(one.needed_by)} can't start without it" if one.needed_by else ""
    again = f"inv {'restart' if one.state is ServiceState.UNRESPONSIVE else 'start'} --only {one.name}"
    sentence = f"{one.name} {how}{what}{users}."
    if one.run_again:
        return sentence, Fix(command=again, action=again.split()[1], service=one.name)
    return sentence, Fix(command=f"correct what its log shows, then `{again}`", action="")


def refused_password(facts: StackFacts) -> Iterator[Finding]:
    """It runs, with another password than the inventory has: each start sets the inventory's."""
    changed = {one.name: one for one in facts.host.changed_services}
    for one in facts.host.broken_services:
        if not one.refused:
            continue
        users = f", as {joined(one.needed_by)} may" if one.needed_by else ""
        if one.name in changed:
            how = f"which was changed since it was {_since(changed[one.name])}: it runs on with the old one{users}"
            # Who uses it has a finding of its own, as the password is in its configuration too.
            fix = _renewal(changed[one.name])
        else:
            how = "though it was started with it: somebody has changed it in the service itself"
            fix = Fix(command=f"inv restart --only {one.name}", action="restart", service=one.name)
        yield Finding(
            rule="refused-password",
            severity="error",
            sentence=f"{one.name} refuses the password of the inventory, {how}.",
            evidence=(f"service {one.name} is {one.state}: {one.detail}",),
            fixes=(fix,),
            service=one.name,
            by_hand=not fix.action,
            rank=4,
        )


def _since(changed: ChangedService) -> str:
    return "deployed" if changed.undeployed else "started"


def _renewal(changed: ChangedService) -> Fix:
    """A deploy is a person's step: it brings whatever else has changed."""
    if changed.undeployed:
        return Fix(command="inv deploy", action="")
    return Fix(command=f"inv start --only {changed.name}", action="start", service=changed.name)


def old_configuration(facts: StackFacts) -> Iterator[Finding]:
    """Half of a stack with a new password and half with the old one do not understand each other."""
    refused = {one.name for one in facts.host.broken_services if one.refused}
    for one in facts.host.changed_services:
        if one.name in refused:
            continue
        what = f": {', '.join(one.variables)} changed" if one.variables else ", which was changed"
        yield Finding(
            rule="old-configuration",
            severity="warning",
            sentence=f"{one.name} runs with an older configuration than the inventory has{what} since it was {_since(one)}.",
            evidence=(
                "its environment file on the host has other values"
                if one.undeployed
                else "its digest differs from what is declared",
            ),
            fixes=(_renewal(one),),
            service=one.name,
            rank=41,
        )


def dead_monitor(facts: StackFacts) -> Iterator[Finding]:
    """Calls are answered without it, and whatever breaks next stays broken."""
    for name in facts.host.dead_monitors:
        yield Finding(
            rule="monitor-dead",
            severity="warning",
            sentence=f"{name} does not run any more, and nobody has stopped it: what breaks now is not repaired.",
            evidence=(f"service {name} has no process, and is to run",),
            fixes=(Fix(command=f"inv start --only {name}", action="start", service=name),),
            rank=25,
        )


def full_disk(facts: StackFacts) -> Iterator[Finding]:
    """Programs whose data can't be written stop sooner or later; those whose log can't be written go on."""
    for disk in facts.host.full_disks:
        harm = [f"{joined(disk.data)} can't write"] if disk.data else []
        harm += [f"what {joined(disk.logs)} log is lost"] if disk.logs else []
        what = f"the data of {joined(disk.data)}" if disk.data else "the project"
        yield Finding(
            rule="disk-full",
            severity="error" if disk.data else "warning",
            sentence=f"The disk of {what} is full: {', and '.join(harm) or 'nothing can be started'}.",
            evidence=(f"{disk.free_bytes} bytes are free in {disk.folder}",),
            fixes=(Fix(command=f"make room on the disk of {disk.folder}, then `inv start`", action=""),),
            service=disk.data[0] if disk.data else "",
            by_hand=bool(disk.data),
            rank=3,
        )


def low_disk(facts: StackFacts) -> Iterator[Finding]:
    if not facts.host.full_disks and facts.host.disk_free_bytes < MIN_FREE_BYTES:
        yield Finding(
            rule="disk-full",
            severity="warning",
            sentence=f"Only {facts.host.disk_free_bytes // 1_000_000} MB are free: logs and state can't be written soon.",
            evidence=(f"free: {facts.host.disk_free_bytes} bytes",),
            fixes=(Fix(command="inv rotate-logs", action=""),),
            rank=45,
        )
