"""Hand a message to the process that delivers it, under a deadline, and say which targets did not get it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from voiceops.alerts.deliver import AlertTarget, Delivery
from voiceops.model.alerts import AlertMessage

DEADLINE_S = 30.0
_PACKAGE = str(Path(__file__).resolve().parents[2])


class AlertSender:
    """Sends to the targets of one project."""

    def __init__(
        self, project: str, host: str, targets: Sequence[AlertTarget], *, deadline_s: float = DEADLINE_S
    ) -> None:
        self.targets = targets
        self._project = project
        self._host = host
        self._deadline_s = deadline_s

    def for_host(self, host: str) -> AlertSender:
        """Return the same, for messages about another host, or several."""
        return AlertSender(self._project, host, self.targets, deadline_s=self._deadline_s)

    def send(self, message: AlertMessage, targets: Sequence[AlertTarget]) -> Mapping[str, str]:
        """Return the names of targets that did not get it, each with the reason; never raises."""
        delivery = Delivery(project=self._project, host=self._host, message=message, targets=list(targets))
        path = os.pathsep.join(filter(None, (_PACKAGE, os.environ.get("PYTHONPATH", ""))))
        try:
            done = subprocess.run(
                [sys.executable, "-m", "voiceops.alerts.deliver"],
                input=msgspec.json.encode(delivery),
                capture_output=True,
                timeout=self._deadline_s,
                env=os.environ | {"PYTHONPATH": path},
                check=False,
            )
            failed = msgspec.json.decode(done.stdout, type=dict[str, str])
        except subprocess.TimeoutExpired:
            return {target.name: f"no answer within {self._deadline_s:g} s" for target in targets}
        except (OSError, msgspec.MsgspecError) as error:
            return {target.name: f"the delivery broke off: {error}" for target in targets}
        return failed
