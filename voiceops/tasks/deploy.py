"""setup, deploy, drift: hosts as declared."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command
from voiceops.cli.flags import DeployFlags, SetupFlags

_CONNECT = {
    "accept_new": "Trust the key of a host that is seen for the first time, and write it down.",
    "parallel": "Connections at once (default: deploy.parallel).",
}
_ROLL = {
    "serial": "Hosts of one batch, as 2 or 25% (default: deploy.serial).",
    "max_fail": "Begin no further batch once more hosts than this have failed (default: deploy.max_fail).",
    "wait": "Seconds to wait for somebody else's deploy (default: deploy.lock_wait_s).",
}


@command(
    *TARGETS,
    "timeout",
    "yes",
    "check",
    "diff",
    own_flags=DeployFlags,
    help={
        **_CONNECT,
        **_ROLL,
        "no_call": "Leave out the calls that prove it.",
        "drain": "Seconds that a livekit-server which has to restart may wait for a moment without calls.",
        "canary": "Share of new calls that a new release takes at first, as 10%.",
        "for_": "How long it takes that share, as 90s, 10m or 2h (default: 10m).",
        "yes": "Go ahead where live calls would be dropped, or with a release that is marked bad.",
    },
)
def deploy(run: CommandRun, flags: DeployFlags) -> Report:
    """Bring servers to what the inventory declares, bare ones too, and prove it by a call.

    Changes only what differs; agents are replaced by overlap. A release that fails its call is marked bad, and
    the one before it serves again. Example: inv deploy --host web1 --check --diff
    """
    from voiceops.commands.deploy import deploy_hosts

    return deploy_hosts(run, "deploy", flags, call=not flags.no_call, check=run.check)


@command(*TARGETS, "timeout", "check", "diff", own_flags=SetupFlags, help={**_CONNECT, **_ROLL})
def setup(run: CommandRun, flags: SetupFlags) -> Report:
    """Prepare servers: Python, user, folders, programs, wheels, kernel settings; starts nothing.

    `inv deploy` does it as well. Example: inv setup --group voice --accept-new
    """
    from voiceops.commands.deploy import deploy_hosts

    return deploy_hosts(run, "setup", flags, call=False, check=run.check)


@command(*TARGETS, "timeout", "diff", help=_CONNECT)
def drift(run: CommandRun, parallel: int = 0, accept_new: bool = False) -> Report:
    """Compare servers with the inventory; exit 2 with what differs: files, units, services. Changes nothing.

    Example: inv drift --group voice --diff
    """
    from voiceops.commands.deploy import deploy_hosts

    flags = SetupFlags(parallel=parallel, accept_new=accept_new)
    return deploy_hosts(run, "drift", flags, call=False, check=True)
