"""Bring hosts to what the inventory declares, or say what differs."""

from __future__ import annotations

from voiceops.cli.command import Report, Run
from voiceops.cli.flags import SetupFlags
from voiceops.commands.deploy_view import View, deploy_report
from voiceops.commands.hosts import servers
from voiceops.wiring.fleet import open_fleet


def deploy_hosts(run: Run, what: str, flags: SetupFlags, *, call: bool, check: bool) -> Report:
    """Run ``deploy``, ``setup`` or ``drift`` on the selected servers; with ``check`` change nothing."""
    view = View(run, what)
    hosts = servers(run.project, what=what)
    fleet = open_fleet(hosts, parallel=flags.parallel, accept_new=flags.accept_new, on_done=view.done)
    # Imported while the connections are being opened: connecting is mostly waiting.
    from voiceops.deploy.operations import Options
    from voiceops.fleet.order import serial_of
    from voiceops.resources import default_owner
    from voiceops.wiring.deploy import deployer

    options = Options(
        by=default_owner(),
        serial=serial_of(flags.serial) if flags.serial else None,
        max_fail=flags.max_fail if flags.max_fail >= 0 else None,
        wait_s=flags.wait if flags.wait >= 0 else None,
        call=call,
        check=check,
        diff=run.diff,
        timeout_s=run.timeout or 300.0,
        drop_calls=run.yes,
        prepare_only=what == "setup",
    )
    done = deployer(run.project, options, view).deploy(fleet)
    return deploy_report(view, done, check=check)
