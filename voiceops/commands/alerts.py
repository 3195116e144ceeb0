"""Try the channels of alerts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from voiceops.cli.command import CommandRun, Report
from voiceops.errors import UsageError
from voiceops.model.alerts import AlertMessage
from voiceops.wiring.alerts import alert_sender

if TYPE_CHECKING:
    from voiceops.model.documents.alerts import AlertTestDocument, TestedChannel


def send_test_alert(run: CommandRun) -> Report:
    """Send one message to each channel; exit 1 where one did not take it."""
    host = run.project.hosts[0]
    sender = alert_sender(run.project, host)
    if not sender.targets:
        raise UsageError(
            "no alert channel is declared", hint="set alerts.channels or alerts.webhook_url in inventory.yaml"
        )
    now = time.time()
    message = AlertMessage(
        alert="test",
        subject="",
        resolved=False,
        repeated=False,
        began_at=now,
        at=now,
        sentence="This is a test of the alerts of voiceops: nothing is wrong.",
        fix="",
        severity="warning",
    )
    failed = sender.send(message, sender.targets)
    tested: dict[str, TestedChannel] = {
        target.name: {"ok": target.name not in failed, "detail": failed.get(target.name, "")}
        for target in sender.targets
    }
    document: AlertTestDocument = {"hosts": {host.name: {"ok": not failed, "channels": tested}}}
    lines = [f"{name}: {one['detail'] or 'took the message'}" for name, one in tested.items()]
    return Report(document, "\n".join(lines), 1 if failed else 0)
