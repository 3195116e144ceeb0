"""Which hosts a canary makes sense on."""

from __future__ import annotations

from voiceops.deploy.fleet import HostRun
from voiceops.errors import UsageError
from voiceops.stack.reconcile import Verb


def refuse_canary(run: HostRun, *, call: bool) -> None:
    """``UsageError`` where no agent serves that could take the other calls, or none can be replaced beside it."""
    if not run.ok or run.planned is None or run.state is None:
        return  # it has failed already
    if not call:
        raise UsageError(
            "a canary is proved by a call before it takes its share, and calls are left out",
            hint="leave out --no-call, or set deploy.call: true",
        )
    if run.host.settings.deploy.overlap == "never":
        raise UsageError(
            f"{run.name}: with deploy.overlap: never no two releases run side by side, as a canary needs it",
            hint="deploy without --canary",
        )
    agents = {one.name for one in run.state.services if one.is_agent}
    alone = [
        one.service
        for one in run.planned.actions
        if one.service in agents and one.verb in (Verb.START, Verb.RESTART)
    ]
    if not agents or alone:
        what = f"no release of {alone[0]} serves there" if alone else "it runs no agent"
        raise UsageError(
            f"{run.name}: {what} that could take the other calls", hint="deploy without --canary"
        )


def replaces_an_agent(run: HostRun) -> bool:
    """Whether an agent of the host differs, so that there is something to take a share."""
    return run.planned is not None and any(one.verb is Verb.OVERLAP for one in run.planned.actions)
