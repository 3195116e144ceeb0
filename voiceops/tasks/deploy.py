"""setup, deploy, drift: hosts as declared."""

from __future__ import annotations

from typing import Any

from voiceops.cli.command import TARGETS, Report, Run, command

_CONNECT = {
    "accept_new": "Trust the key of a host that is seen for the first time, and write it down.",
    "parallel": "Connections at once (default: deploy.parallel).",
}
_ROLL = {
    "serial": "Hosts of one batch, as 2 or 25% (default: deploy.serial).",
    "max_fail": "So many hosts may fail before no further batch begins (default: deploy.max_fail).",
    "wait": "Seconds to wait for somebody else's deploy (default: deploy.lock_wait_s).",
}


@command(
    *TARGETS,
    "timeout",
    "yes",
    "check",
    "diff",
    help={
        **_CONNECT,
        **_ROLL,
        "no_call": "Leave out the calls that prove it.",
        "yes": "Go ahead where live calls would be dropped, or with a release that is marked bad.",
    },
)
def deploy(
    run: Run,
    serial: str = "",
    max_fail: int = -1,
    parallel: int = 0,
    wait: float = -1.0,
    accept_new: bool = False,
    no_call: bool = False,
) -> Report:
    """Bring servers to what the inventory declares, bare ones too, and prove it by a call.

    Changes only what differs; agents are replaced by overlap. A release that fails its call is marked bad, and
    the one before it serves again. Example: inv deploy --host web1 --check --diff
    """
    flags = {"serial": serial, "max_fail": max_fail, "parallel": parallel, "wait": wait}
    return _run(run, "deploy", accept_new=accept_new, call=not no_call, check=run.check, **flags)


@command(*TARGETS, "timeout", "check", "diff", help={**_CONNECT, **_ROLL})
def setup(
    run: Run,
    serial: str = "",
    max_fail: int = -1,
    parallel: int = 0,
    wait: float = -1.0,
    accept_new: bool = False,
) -> Report:
    """Prepare servers: Python, user, folders, programs, wheels, kernel settings; starts nothing.

    `inv deploy` does it as well. Example: inv setup --group voice --accept-new
    """
    flags = {"serial": serial, "max_fail": max_fail, "parallel": parallel, "wait": wait}
    return _run(run, "setup", accept_new=accept_new, call=False, check=run.check, **flags)


@command(*TARGETS, "timeout", "diff", help=_CONNECT)
def drift(run: Run, parallel: int = 0, accept_new: bool = False) -> Report:
    """Are the servers as declared? Exit 2 with what differs: files, units, services. Changes nothing.

    Example: inv drift --group voice --diff
    """
    flags = {"serial": "", "max_fail": -1, "parallel": parallel, "wait": -1.0}
    return _run(run, "drift", accept_new=accept_new, call=False, check=True, **flags)


def _run(run: Run, what: str, *, accept_new: bool, call: bool, check: bool, **flags: Any) -> Report:
    from voiceops.commands.deploy_view import View, deploy_report
    from voiceops.wiring.deploy import deployer, fleet_of, whoami

    view = View(run, what)
    fleet = fleet_of(
        run.project, what=what, parallel=flags["parallel"], accept_new=accept_new, on_done=view.done
    )
    from voiceops.deploy.operations import Options
    from voiceops.fleet.order import serial_of

    options = Options(
        by=whoami(),
        serial=serial_of(flags["serial"]) if flags["serial"] else None,
        max_fail=flags["max_fail"] if flags["max_fail"] >= 0 else None,
        wait_s=flags["wait"] if flags["wait"] >= 0 else None,
        call=call,
        check=check,
        diff=run.diff,
        timeout_s=run.timeout or 300.0,
        drop_calls=run.yes,
        prepare_only=what == "setup",
    )
    done = deployer(run.project, options, view).deploy(fleet)
    return deploy_report(view, done, check=check)
