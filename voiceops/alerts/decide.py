"""Decide what is told, and when: a pure function of what holds now, what was told before, and the time.

An alert is told once when it begins, again each ``repeat_after_s`` while it lasts, and once when it is over. One that comes
and goes is told as one: it is over only when it has been over for ``settle_s``. Of more than ``MOST_PER_HOUR`` messages
within an hour the rest wait, and are told together in one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from voiceops.model.alerts import ActiveCondition, AlertMessage

SETTLE_S = 60.0
MOST_PER_HOUR = 20
"""Messages, begun, repeated and over; the digest of those that wait counts as one."""
_HOUR_S = 3600.0


class OngoingAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that holds, or has ended so recently that it may come back."""

    condition: ActiveCondition
    began_at: float
    told_at: float | None = None
    """None: nobody was told yet."""
    ended_at: float | None = None
    """Since when it does not hold any more; None: it holds."""


class AlertMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What was told; kept in a file, so that a new monitor neither repeats nor forgets."""

    ongoing: dict[str, OngoingAlert] = {}
    """By the key of the condition."""
    sent_at: tuple[float, ...] = ()
    """Times of the messages of the last hour."""


def decide(
    memory: AlertMemory, conditions: Sequence[ActiveCondition], now: float, *, repeat_after_s: float
) -> tuple[AlertMemory, list[AlertMessage]]:
    """Return the new memory and the messages to send now."""
    sent = [at for at in memory.sent_at if now - _HOUR_S < at <= now]
    ongoing = _updated(memory.ongoing, conditions, now)
    due = [key for key, one in ongoing.items() if _is_due(one, now, repeat_after_s)]
    messages: list[AlertMessage] = []
    free = MOST_PER_HOUR - len(sent)
    # The last message of an hour tells all that is left.
    single = due if len(due) <= free - 1 else due[: max(0, free - 1)]
    for key in single:
        messages.append(_message(ongoing[key], now))
    rest = due[len(single) :]
    if rest and free > 0:
        messages.append(_digest([ongoing[key] for key in rest], now))
    for key in [*single, *(rest if free > 0 else ())]:
        if ongoing[key].ended_at is not None:
            del ongoing[key]
        else:
            ongoing[key] = msgspec.structs.replace(ongoing[key], told_at=now)
    sent += [now] * len(messages)
    return AlertMemory(ongoing=ongoing, sent_at=tuple(sent)), messages


def _updated(
    before: dict[str, OngoingAlert], conditions: Sequence[ActiveCondition], now: float
) -> dict[str, OngoingAlert]:
    holding = {one.key: one for one in conditions}
    ongoing: dict[str, OngoingAlert] = {}
    for key, one in before.items():
        if key in holding:
            ongoing[key] = msgspec.structs.replace(one, condition=holding[key], ended_at=None)
        elif one.told_at is not None:
            ended_at = now if one.ended_at is None else min(one.ended_at, now)
            ongoing[key] = msgspec.structs.replace(one, ended_at=ended_at)
        # One that ended before anybody was told is nobody's business any more.
    for key, condition in holding.items():
        if key not in ongoing:
            ongoing[key] = OngoingAlert(condition=condition, began_at=now)
    return ongoing


def _is_due(one: OngoingAlert, now: float, repeat_after_s: float) -> bool:
    if one.ended_at is not None:
        return now - one.ended_at >= SETTLE_S
    if one.told_at is None or one.told_at > now:  # the clock was set back
        return True
    return now - one.told_at >= repeat_after_s


def _message(one: OngoingAlert, now: float) -> AlertMessage:
    condition = one.condition
    return AlertMessage(
        alert=condition.alert,
        subject=condition.subject,
        resolved=one.ended_at is not None,
        repeated=one.ended_at is None and one.told_at is not None,
        began_at=one.began_at,
        at=now,
        sentence=condition.sentence,
        fix=condition.fix,
        severity=condition.severity,
    )


def _digest(alerts: Sequence[OngoingAlert], now: float) -> AlertMessage:
    if len(alerts) == 1:
        return _message(alerts[0], now)
    begun = [one.condition for one in alerts if one.ended_at is None]
    over = [one.condition for one in alerts if one.ended_at is not None]
    parts = [f"{one.alert} {one.subject}".strip() for one in begun]
    parts += [f"{one.alert} {one.subject}".strip() + " (over)" for one in over]
    return AlertMessage(
        alert="many",
        subject="",
        resolved=not begun,
        repeated=False,
        began_at=min(one.began_at for one in alerts),
        at=now,
        sentence=f"{len(alerts)} more alerts: {', '.join(parts)}",
        fix="inv why",
        severity="error",
    )
