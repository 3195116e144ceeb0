"""A deploy of servers whose connections are being opened."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from voiceops.cli.command import CommandRun, Report
from voiceops.cli.flags import DeployFlags, SetupFlags
from voiceops.commands.deploy_view import DeployView, deploy_report
from voiceops.commands.short_secrets import warn_of_short_secrets
from voiceops.deploy.canary import CanaryOptions, canary_options
from voiceops.deploy.fleet import Fleet
from voiceops.deploy.operations import DeployOptions
from voiceops.deploy.records import deploy_records
from voiceops.errors import UsageError
from voiceops.fleet.order import serial_of
from voiceops.model import timeouts
from voiceops.resources import default_owner
from voiceops.wiring.deploy import deployer

if TYPE_CHECKING:
    from voiceops.commands.deploy_reporter import DeployReporter


def roll_out(
    run: CommandRun, view: DeployView, fleet: Fleet, flags: SetupFlags, *, call: bool, check: bool
) -> Report:
    """Bring the hosts of ``fleet`` to what is declared, and report what changed."""
    own = flags if isinstance(flags, DeployFlags) else DeployFlags()
    options = DeployOptions(
        by=default_owner(),
        serial=serial_of(flags.serial) if flags.serial else None,
        max_fail=flags.max_fail if flags.max_fail >= 0 else None,
        wait_s=flags.wait if flags.wait >= 0 else None,
        call=call,
        check=check,
        diff=run.diff,
        timeout_s=run.timeout or timeouts.DEPLOY_S,
        drop_calls=run.yes,
        drain_s=own.drain if own.drain >= 0 else None,
        canary=_canary(own, fleet),
        prepare_only=view.what == "setup",
    )
    began = time.time()
    asked = bool(fleet.runs[0].host.settings.deploy.notify) and not check
    reporter = _reporter(run, view.what, options.by) if asked else None
    if reporter is not None:
        view.on_begin = reporter.started
    done = deployer(run.project, options, view).deploy(fleet)
    records = deploy_records(fleet, view.what, by=options.by, at=began, took_s=time.time() - began)
    if records and not check:
        (reporter or _reporter(run, view.what, options.by)).ended(records)
    warn_of_short_secrets(run, (one.host for one in fleet.runs if one.ok), then="deploy")
    return deploy_report(view, done, check=check)


def _canary(flags: DeployFlags, fleet: Fleet) -> CanaryOptions | None:
    try:
        canary = canary_options(flags.canary, flags.for_)
        if canary and len(fleet.runs) > 1:
            raise UsageError(
                "a canary is one host's: its share is measured against the release that serves beside it",
                hint="name one server by --host; without --canary a deploy begins with one host ahead alone",
            )
    except UsageError:
        fleet.close()
        raise
    return canary


def _reporter(run: CommandRun, action: str, by: str) -> DeployReporter:
    # SQLAlchemy: a deploy that changes nothing does not pay for it.
    from voiceops.commands.deploy_reporter import DeployReporter

    return DeployReporter(run, action, by=by)
