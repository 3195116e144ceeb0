"""Tells people of what holds, in a thread of its own: a channel that does not answer never stops the monitor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from voiceops.alerts.conditions import AlertInputs, MachineFacts, conditions
from voiceops.alerts.decide import AlertMemory, decide
from voiceops.alerts.send import AlertSender
from voiceops.history.recorder_thread import RecorderThread
from voiceops.model.alerts import ActiveCondition, AlertMessage
from voiceops.model.findings import steps_for_host
from voiceops.model.monitor_events import AlertRaised
from voiceops.model.settings import AlertSettings
from voiceops.util.atomic_write import write_atomically

log = logging.getLogger("voiceops.alerts")

TICK_S = 15.0
OBSERVE_EVERY_S = 300.0
RETRY_AFTER_S = (5.0, 30.0, 120.0, 600.0)
"""Pauses between tries; a target that has refused one more time than there are pauses does not get the message."""
_MOST_WAITING = 100


class WaitingMessage(msgspec.Struct, kw_only=True):
    """A message that some targets have not got yet."""

    message: AlertMessage
    targets: list[str]
    """Their names."""
    tries: int = 0
    next_at: float = 0.0


class _AlertFile(msgspec.Struct, kw_only=True):
    memory: AlertMemory = AlertMemory()
    waiting: list[WaitingMessage] = []


class AlertRecorder(RecorderThread):
    """A ``ports.MonitorRecorder`` that sends alerts; what waits in the end is sent by the next monitor."""

    def __init__(
        self,
        settings: AlertSettings,
        sender: AlertSender,
        *,
        host: str,
        file: Path,
        observe: Callable[[], MachineFacts],
        server: str = "",
        tell: Callable[[AlertRaised], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``server``: the name of the server that it runs on, for commands that people type elsewhere."""
        super().__init__("voiceops_alerts", most_events=100_000)
        self._settings = settings
        self._server = server
        self._sender = sender
        self._host = host
        self._file = file
        self._observe = observe
        self._tell = tell
        """Gets each alert that begins or is over, for the metrics."""
        self._clock = clock
        self._inputs = AlertInputs()
        self._machine = MachineFacts()
        self._observe_at = 0.0
        self._state = self._read()
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(TICK_S if not self._state.waiting else min(TICK_S, RETRY_AFTER_S[0]))
            self._wake.clear()
            if not self._closing.is_set():
                self.work()

    def work(self) -> None:
        """Judge what holds now, and send what is due."""
        while self._events:
            self._inputs.record(self._events.popleft())
        now = self._clock()
        if now >= self._observe_at:
            self._observe_at = now + OBSERVE_EVERY_S
            self._machine = self._observe()
        holding = [self._named(one) for one in conditions(self._inputs, self._machine, self._settings, now)]
        if self._inputs.check is None:
            # A new monitor knows nothing yet: an alert of the one before is not over because of that.
            known = {one.key for one in holding}
            before = self._state.memory.ongoing.items()
            holding += [one.condition for key, one in before if key not in known and one.ended_at is None]
        memory, messages = decide(
            self._state.memory, holding, now, repeat_after_s=self._settings.repeat_after_s
        )
        changed = bool(messages) or memory != self._state.memory
        self._state.memory = memory
        names = [target.name for target in self._sender.targets]
        for message in messages:
            if self._tell is not None:
                self._tell(_event(message, self._host))
            self._state.waiting.append(WaitingMessage(message=message, targets=names))
        del self._state.waiting[:-_MOST_WAITING]
        if changed:
            self._write()
        self._send_waiting()

    def _named(self, condition: ActiveCondition) -> ActiveCondition:
        if not self._server:
            return condition
        return msgspec.structs.replace(condition, fix=steps_for_host(condition.fix, self._server))

    def _send_waiting(self) -> None:
        for waiting in list(self._state.waiting):
            if self._closing.is_set():
                return
            if self._clock() < waiting.next_at:
                continue
            targets = [one for one in self._sender.targets if one.name in waiting.targets]
            failed = self._sender.send(waiting.message, targets)
            waiting.targets = [one.name for one in targets if one.name in failed]
            waiting.tries += 1
            for name, reason in failed.items():
                log.warning("an alert was not delivered", extra={"channel": name, "error": reason})
            if not waiting.targets or waiting.tries > len(RETRY_AFTER_S):
                self._state.waiting.remove(waiting)
            else:
                waiting.next_at = self._clock() + RETRY_AFTER_S[waiting.tries - 1]
            self._write()

    def _read(self) -> _AlertFile:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_AlertFile)
        except FileNotFoundError:
            return _AlertFile()
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the file of alerts can't be read", extra={"error": str(error)})
            return _AlertFile()

    def _write(self) -> None:
        try:
            write_atomically(self._file, msgspec.json.encode(self._state))
        except OSError as error:
            # What was told is still known to this process; only the next one would tell it again.
            log.warning("the file of alerts can't be written", extra={"error": str(error)})


def _event(message: AlertMessage, host: str) -> AlertRaised:
    return AlertRaised(
        at=message.at,
        host=host,
        alert=message.alert,
        subject=message.subject,
        sentence=message.sentence,
        fix=message.fix,
        resolved=message.resolved,
    )
