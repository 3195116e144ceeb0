"""setup, deploy, rollback, releases, drift, lock, unlock, render."""

from __future__ import annotations

from typing import Any

from voiceops.tasks.command import TARGETS, Report, Run, command

_CONNECT = {"accept_new": "Trust the key of a host that is seen for the first time, and write it down."}


@command(
    *TARGETS,
    "timeout",
    "yes",
    "check",
    "diff",
    help={
        **_CONNECT,
        "serial": "Hosts of one batch, as 2 or 25% (default: deploy.serial).",
        "max_fail": "So many hosts may fail before no further batch begins (default: deploy.max_fail).",
        "parallel": "Connections at once (default: deploy.parallel).",
        "wait": "Seconds to wait for somebody else's deploy (default: deploy.lock_wait_s).",
        "no_call": "Leave out the call at the end.",
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

    Changes only what differs; agents are replaced by overlap. Example: inv deploy --host web1 --check --diff
    """
    from voiceops.tasks.deploy_view import deploy_report
    from voiceops.wiring_deploy import Options, run_deploy

    options = Options(
        serial=serial,
        max_fail=max_fail if max_fail >= 0 else None,
        parallel=parallel or None,
        wait_s=wait if wait >= 0 else None,
        accept_new=accept_new,
        call=not no_call,
        check=run.check,
        diff=run.diff,
        timeout_s=run.timeout or 300.0,
        drop_calls=run.yes,
    )
    return deploy_report(run, run_deploy(run.project, options, view=_view(run)))


def _view(run: Run) -> Any:
    from voiceops.tasks.deploy_view import View

    return View(run)

