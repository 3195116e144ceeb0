"""Alerts of a running monitor: sent in the background, tried again, known to the next monitor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from voiceops.alerts import recorder as recorder_module
from voiceops.alerts.conditions import MachineFacts
from voiceops.alerts.deliver import AlertTarget, text
from voiceops.alerts.recorder import AlertRecorder
from voiceops.alerts.send import AlertSender
from voiceops.model.alerts import AlertMessage
from voiceops.model.monitor_events import AlertRaised, CheckSummary
from voiceops.model.settings import AlertSettings

LIMIT = AlertRaised(at=1.0, host="h", alert="restart-limit", subject="agent", sentence="It ended 10 times.")
OVER = AlertRaised(at=2.0, host="h", alert="restart-limit", subject="agent", resolved=True)
TARGETS = [AlertTarget(name="one", url="json://one"), AlertTarget(name="two", url="json://two")]


class FakeSender(AlertSender):
    """Keeps the messages; the targets in ``down`` fail."""

    def __init__(self) -> None:
        super().__init__("p", "h", TARGETS)
        self.sent: list[tuple[str, str, bool]] = []
        self.messages: list[AlertMessage] = []
        self.down: set[str] = set()
        self.takes_s = 0.0

    def send(self, message: AlertMessage, targets: Sequence[AlertTarget]) -> Mapping[str, str]:
        time.sleep(self.takes_s)
        self.messages.append(message)
        self.sent += [
            (one.name, message.alert, message.resolved) for one in targets if one.name not in self.down
        ]
        return {one.name: "down" for one in targets if one.name in self.down}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> FakeSender:
    monkeypatch.setattr(recorder_module, "RETRY_AFTER_S", (0.02, 0.02, 0.02))
    monkeypatch.setattr(recorder_module, "TICK_S", 0.02)
    monkeypatch.setattr("voiceops.alerts.decide.SETTLE_S", 0.0)
    return FakeSender()


def recorder(sender: FakeSender, folder: Path, told: list[AlertRaised] | None = None) -> AlertRecorder:
    return AlertRecorder(
        AlertSettings(),
        sender,
        host="h",
        file=folder / "alerts.json",
        observe=MachineFacts,
        tell=(told if told is not None else []).append,
    )


def test_an_alert_reaches_all_targets_and_so_does_its_end(sender: FakeSender, tmp_path: Path) -> None:
    told: list[AlertRaised] = []
    alerts = recorder(sender, tmp_path, told)
    alerts.record(LIMIT)
    until(lambda: len(sender.sent) == 2)
    alerts.record(OVER)
    # No check has come: what an earlier monitor told could still hold.
    until(lambda: len(alerts._events) == 0)
    alerts.close()

    assert sender.sent[:2] == [("one", "restart-limit", False), ("two", "restart-limit", False)]
    assert [(one.alert, one.resolved) for one in told][:1] == [("restart-limit", False)]


def test_recording_never_waits_for_a_channel(sender: FakeSender, tmp_path: Path) -> None:
    sender.takes_s = 1.0
    alerts = recorder(sender, tmp_path)
    began = time.monotonic()
    for _ in range(1000):
        alerts.record(LIMIT)
    assert time.monotonic() - began < 0.5
    alerts.close()


def test_only_who_did_not_get_it_is_tried_again(
    sender: FakeSender, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sender.down = {"two"}
    with caplog.at_level(logging.WARNING, "voiceops.alerts"):
        alerts = recorder(sender, tmp_path)
        alerts.record(LIMIT)
        until(lambda: bool(caplog.records))
        sender.down = set()
        until(lambda: len(sender.sent) == 2)
        alerts.close()

    assert [name for name, _, _ in sender.sent] == ["one", "two"]


def test_who_never_takes_it_is_given_up(
    sender: FakeSender, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sender.down = {"one", "two"}
    alerts = recorder(sender, tmp_path)
    alerts.record(LIMIT)
    until(lambda: len(caplog.records) >= 8)
    time.sleep(0.1)
    alerts.close()

    assert len(caplog.records) == 8  # two targets, one try and three more
    assert alerts._state.waiting == []


def test_the_next_monitor_repeats_nothing_and_sends_what_waits(sender: FakeSender, tmp_path: Path) -> None:
    first = recorder(sender, tmp_path)
    first.record(LIMIT)
    until(lambda: len(sender.sent) == 2)
    first.close()
    second = recorder(sender, tmp_path)
    second.record(LIMIT)
    until(lambda: len(second._events) == 0)
    time.sleep(0.1)
    second.close()
    assert len(sender.sent) == 2

    third = FakeSender()
    third.down = {"one"}
    waiting = recorder(third, tmp_path / "other")
    waiting.record(LIMIT)
    until(lambda: third.sent == [("two", "restart-limit", False)])
    waiting.close()
    third.down = set()
    resumed = recorder(third, tmp_path / "other")
    until(lambda: ("one", "restart-limit", False) in third.sent)
    resumed.close()


def test_a_damaged_file_is_told_and_replaced(
    sender: FakeSender, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alerts.json").write_text("half a {")
    alerts = recorder(sender, tmp_path)
    alerts.record(LIMIT)
    until(lambda: len(sender.sent) == 2)
    alerts.close()

    assert caplog.messages == ["the file of alerts can't be read"]


def test_the_end_is_told_with_the_sentence_of_why_and_on_a_server_fixes_name_it(
    sender: FakeSender, tmp_path: Path
) -> None:
    alerts = AlertRecorder(
        AlertSettings(),
        sender,
        host="web1",
        file=tmp_path / "alerts.json",
        observe=MachineFacts,
        server="web1",
    )
    failed = AlertRaised(
        at=1.0,
        host="web1",
        alert="calls-failed",
        subject="agent",
        sentence="The last call of agent failed: KeyError (agent.py:31).",
        fix="inv why --fix && inv call",
    )
    check = CheckSummary(at=1.0, host="web1", ok=True, took_s=0.1)
    for event in (failed, check):
        alerts.record(event)
    until(lambda: len(sender.messages) == 1)
    alerts.record(msgspec.structs.replace(failed, resolved=True))
    until(lambda: len(sender.messages) == 2)
    alerts.close()
    begun, over = sender.messages
    assert begun.fix == "inv why --fix --host web1 && inv call --host web1"
    assert text(begun).splitlines() == [failed.sentence, f"fix: {begun.fix}"]
    assert (over.resolved, over.sentence) == (True, failed.sentence)
    assert text(over).startswith(f"{failed.sentence}\nIt lasted ")
