"""Bring hosts to what the inventory declares, or say what differs."""

from __future__ import annotations

from voiceops.cli.command import CommandRun, Report
from voiceops.cli.flags import SetupFlags
from voiceops.commands.deploy_view import DeployView
from voiceops.fleet.order import servers
from voiceops.wiring.fleet import open_fleet


def deploy_hosts(run: CommandRun, what: str, flags: SetupFlags, *, call: bool, check: bool) -> Report:
    """Run ``deploy``, ``setup`` or ``drift`` on the selected servers; with ``check`` change nothing."""
    view = DeployView(run, what)
    hosts = servers(run.project.hosts, what=what)
    fleet = open_fleet(hosts, parallel=flags.parallel, accept_new=flags.accept_new, on_done=view.done)
    # Imported while the connections are being opened: connecting is mostly waiting.
    from voiceops.commands.rollout import roll_out

    return roll_out(run, view, fleet, flags, call=call, check=check)
