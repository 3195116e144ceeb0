"""The health monitor in the foreground; it is also a service."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command


@command(
    *TARGETS,
    help={
        "once": "One check that changes nothing, here or on the hosts of --host; exit 2 if something is not as it should be.",
        "test-alert": "Send a message to each channel of `alerts`, and say which did not take it.",
    },
)
def monitor(run: CommandRun, once: bool = False, test_alert: bool = False) -> Report:
    """Watch this machine's stack and repair it until Ctrl-C: services, lost calls, stale rooms.

    Declare a service of kind `monitor` to have it run beside the others. Example: inv monitor --once --host web1
    """
    if test_alert:
        from voiceops.commands.alerts import send_test_alert

        return send_test_alert(run)
    from voiceops.commands.monitor import run_monitor

    return run_monitor(run, once=once)
