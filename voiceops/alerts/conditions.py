"""What holds now that a person should know of, judged from what the monitor said and what was observed of the machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from voiceops.history.calls import CallTracker
from voiceops.model.alerts import ActiveCondition
from voiceops.model.monitor_events import (
    AlertRaised,
    CheckSummary,
    Incident,
    MonitorEvent,
    ProbeCall,
    WebhookEvent,
)
from voiceops.model.settings import AlertSettings

CLOCK_SKEW_S = 30.0
"""LiveKit takes no token that is more than 60 s off."""
PROBE_FAILURES = 2
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What was observed of the machine and of LiveKit's address; None: it could not be."""

    disk_free_bytes: int | None = None
    clock_skew_s: float | None = None
    """Seconds that LiveKit's clock is ahead of ours."""
    certificate_expires_at: float | None = None
    certificate_error: str = ""
    """Why TLS refuses the certificate."""


@dataclass(slots=True)
class AlertInputs:
    """What the monitor said, as far as alerts depend on it."""

    tracker: CallTracker = field(default_factory=CallTracker)
    check: CheckSummary | None = None
    checks_without_worker: int = 0
    outcomes: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=100_000))
    """When each call ended, and whether it was answered."""
    probe_failures: int = 0
    probe_error: str = ""
    incidents: dict[str, Incident] = field(default_factory=dict)
    """Open ones."""
    ended: deque[Incident] = field(default_factory=lambda: deque(maxlen=50))
    """What was open a while ago explains calls that failed then."""
    raised: dict[tuple[str, str], AlertRaised] = field(default_factory=dict)
    """What the monitor itself raised and has not resolved."""

    def record(self, event: MonitorEvent) -> None:
        """Take one event in."""
        if isinstance(event, CheckSummary):
            self.check = event
            if event.worker_count is not None:
                self.checks_without_worker = 0 if event.worker_count else self.checks_without_worker + 1
            if event.call_count == 0:
                self.tracker.on_nobody(event.at)
        elif isinstance(event, WebhookEvent):
            for call in self.tracker.on_webhook(event):
                if call.outcome not in (None, "abandoned"):
                    self.outcomes.append((event.at, call.answered))
        elif isinstance(event, ProbeCall):
            self.probe_failures = 0 if event.ok else self.probe_failures + 1
            self.probe_error = event.error
        elif isinstance(event, Incident):
            self.incidents.pop(event.incident, None)
            if event.ended_at is None:
                self.incidents[event.incident] = event
            else:
                self.ended.append(event)
        elif isinstance(event, AlertRaised):
            self.raised.pop((event.alert, event.subject), None)
            if not event.resolved:
                self.raised[event.alert, event.subject] = event


def conditions(
    inputs: AlertInputs, machine: MachineFacts, settings: AlertSettings, now: float
) -> list[ActiveCondition]:
    """All that holds; what `why` found of the same cause lends its sentence and its fix."""
    of_calls = (
        *_rooms(inputs, settings),
        *_no_worker(inputs),
        *_answer_rate(inputs, settings, now),
        *_probe(inputs),
    )
    return [
        *_raised(inputs),
        *_machine(machine, settings, now),
        *(explained(one, inputs, settings, now) for one in of_calls),
    ]


_OF_ROOMS = frozenset({"orphan-room", "never-joined", "server-not-ready", "livekit-unreachable"})


def explained(
    condition: ActiveCondition, inputs: AlertInputs, settings: AlertSettings, now: float
) -> ActiveCondition:
    """Return the condition with the sentence and the fix of the incident behind it, where one is known."""
    known = next(_causes(condition.alert, inputs, now - settings.window_s), None)
    if known is None:
        return condition
    return msgspec.structs.replace(
        condition, sentence=f"{condition.sentence} {known.sentence}", fix=known.fix or condition.fix
    )


def _causes(alert: str, inputs: AlertInputs, since: float) -> Iterator[Incident]:
    """The incidents that explain an alert: those that go on, and of failed calls also those that ended since then."""
    for one in inputs.incidents.values():
        if (
            (alert == "no-worker" and one.subject and one.cause.startswith("service-"))
            or (alert == "max-rooms" and one.cause in _OF_ROOMS)
            or alert in ("answer-rate", "probe")
        ):
            yield one
    if alert == "answer-rate":
        yield from (one for one in reversed(inputs.ended) if (one.ended_at or 0.0) > since)


def _raised(inputs: AlertInputs) -> Iterator[ActiveCondition]:
    for one in inputs.raised.values():
        yield ActiveCondition(alert=one.alert, subject=one.subject, sentence=one.sentence, fix=one.fix)


def _rooms(inputs: AlertInputs, settings: AlertSettings) -> Iterator[ActiveCondition]:
    rooms = inputs.check.rooms if inputs.check else None
    if rooms is not None and settings.max_rooms is not None and rooms.total > settings.max_rooms:
        yield ActiveCondition(
            alert="max-rooms",
            sentence=f"LiveKit has {rooms.total} rooms, more than alerts.max_rooms ({settings.max_rooms}): "
            f"{rooms.in_call} in a call, {rooms.waiting} waiting, {rooms.agent_only + rooms.empty} without a person.",
            fix="inv rooms.list",
            severity="warning",
        )


def _no_worker(inputs: AlertInputs) -> Iterator[ActiveCondition]:
    # One check may fall into a restart.
    if inputs.checks_without_worker < 2:
        return
    yield ActiveCondition(
        alert="no-worker",
        sentence="No agent is registered with LiveKit: nobody answers new calls.",
        fix="inv why --fix",
    )


def _answer_rate(inputs: AlertInputs, settings: AlertSettings, now: float) -> Iterator[ActiveCondition]:
    recent = [answered for at, answered in inputs.outcomes if now - settings.window_s < at]
    if len(recent) < settings.min_calls:
        return
    rate = sum(recent) / len(recent)
    if rate < settings.answer_rate:
        yield ActiveCondition(
            alert="answer-rate",
            sentence=f"{sum(recent)} of {len(recent)} calls of the last {settings.window_s / 60:g} minutes were "
            f"answered, {rate:.0%}: less than alerts.answer_rate ({settings.answer_rate:.0%}).",
            fix="inv why",
        )


def _probe(inputs: AlertInputs) -> Iterator[ActiveCondition]:
    if inputs.probe_failures >= PROBE_FAILURES:
        yield ActiveCondition(
            alert="probe",
            sentence=f"The monitor's own calls are not answered, the last {PROBE_FAILURES} or more in a row: "
            f"{inputs.probe_error or 'no cause known'}.",
            fix="inv why --fix",
        )


def _machine(machine: MachineFacts, settings: AlertSettings, now: float) -> Iterator[ActiveCondition]:
    free = machine.disk_free_bytes
    if free is not None and free < settings.disk_free_bytes:
        yield ActiveCondition(
            alert="disk",
            sentence=f"Only {free // 1_000_000} MB are free: logs and state can't be written soon.",
            fix="inv rotate-logs",
            severity="warning",
        )
    skew = machine.clock_skew_s
    if skew is not None and abs(skew) > CLOCK_SKEW_S:
        yield ActiveCondition(
            alert="clock",
            sentence=f"This machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} LiveKit's: "
            "from 60 s on, tokens made here count as expired or not yet valid.",
            fix="timedatectl set-ntp true",
        )
    if machine.certificate_error:
        yield ActiveCondition(
            alert="certificate",
            sentence=f"The certificate of livekit.url is refused: {machine.certificate_error}.",
            fix="renew the certificate",
        )
    elif machine.certificate_expires_at is not None:
        days = (machine.certificate_expires_at - now) / _DAY_S
        if days < settings.certificate_days:
            yield ActiveCondition(
                alert="certificate",
                sentence=f"The certificate of livekit.url expires in {max(0.0, days):.0f} days.",
                fix="renew the certificate",
                severity="warning",
            )
