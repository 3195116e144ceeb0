"""Record a deploy, a setup or a rollback of servers in the history, and tell the channels of alerts of it (``deploy.notify``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from voiceops.alerts.send import DEADLINE_S, AlertSender
from voiceops.cli.command import CommandRun
from voiceops.errors import ConfigError
from voiceops.model.alerts import AlertMessage, DeployState
from voiceops.model.history import DeployRecord
from voiceops.util.words import counted
from voiceops.wiring.alerts import alert_sender
from voiceops.wiring.history import record_history

_ASKED_AS: dict[DeployState, str] = {
    "started": "start",
    "succeeded": "success",
    "failed": "failure",
    "rolled-back": "rollback",
}


class DeployReporter:
    """Reports one run; what a channel does not take is a warning, and changes nothing of the run."""

    def __init__(self, run: CommandRun, action: str, *, by: str) -> None:
        """``ConfigError`` if ``deploy.notify`` asks for messages and no channel is declared."""
        self._run = run
        self._action = action
        self._by = by
        self._began = time.time()
        self._threads: list[threading.Thread] = []
        host = run.project.hosts[0]
        self._asked = frozenset(host.settings.deploy.notify)
        self._sender = alert_sender(run.project, host) if self._asked else None
        if self._sender is not None and not self._sender.targets:
            error = ConfigError(
                "deploy.notify is set, but no alert channel is declared",
                path="deploy.notify",
                hint="set alerts.channels or alerts.webhook_url in inventory.yaml",
            )
            raise run.project.configuration.pointed(host.name, error)

    def started(self, hosts: Sequence[str]) -> None:
        """Something is going to be changed on these hosts."""
        if hosts:
            self._send("started", hosts, f"{self._by} began to {self._verb} {counted(len(hosts), 'host')}.")

    def ended(self, records: Sequence[DeployRecord]) -> None:
        """Record what became of it and tell it, one message for each kind of end; returns once all are delivered."""
        if records:
            record_history(self._run.project, records, self._run.say)
        for state in ("succeeded", "failed", "rolled-back"):
            found = [one for one in records if _state(one) == state]
            if found:
                self._send(state, [one.host for one in found], "\n".join(map(_sentence, found)))
        for thread in self._threads:
            thread.join(DEADLINE_S + 5.0)

    @property
    def _verb(self) -> str:
        return {"rollback": "roll back", "setup": "set up"}.get(self._action, self._action)

    def _send(self, state: DeployState, hosts: Sequence[str], sentence: str) -> None:
        if self._sender is None or _ASKED_AS[state] not in self._asked:
            return
        sender = self._sender.for_host(", ".join(hosts))
        message = AlertMessage(
            alert=self._action,
            subject="",
            resolved=state == "succeeded",
            repeated=False,
            began_at=self._began,
            at=time.time(),
            sentence=sentence,
            fix="inv history --deploys" if state == "failed" else "",
            severity="error" if state == "failed" else "warning",
            deploy_state=state,
        )
        thread = threading.Thread(target=self._deliver, args=(sender, message), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _deliver(self, sender: AlertSender, message: AlertMessage) -> None:
        for name, reason in sender.send(message, sender.targets).items():
            self._run.say(f"warning: {name} was not told of the {self._action}: {reason}")


def _state(record: DeployRecord) -> DeployState:
    # A deploy that takes a host back by itself leaves two records: one that failed, and a rollback.
    return "failed" if not record.ok else "rolled-back" if record.action == "rollback" else "succeeded"


def _sentence(record: DeployRecord) -> str:
    what = f"{record.host}: {record.action} by {record.by}, {counted(record.changed_count, 'change')}"
    release = f", release {record.release}" if record.release else ""
    cause = f": {record.detail}" if record.detail else ""
    return f"{what}{release}, {record.took_s:.0f} s{cause}"
