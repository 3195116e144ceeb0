"""What the history remembers of synthetic calls."""

from __future__ import annotations

from collections.abc import Sequence

from voiceops.model.calls import CallResult, FailureKind
from voiceops.model.history import CallRecord, record_id

_OUTCOMES = {
    None: "answered",
    FailureKind.NO_AGENT: "unanswered",
    FailureKind.SILENT: "unanswered",
    FailureKind.DROPPED: "dropped",
    FailureKind.POOR_QUALITY: "answered",
}


def call_records(results: Sequence[CallResult], *, host: str, began: float) -> list[CallRecord]:
    """One record for each call; one that the calling side broke says nothing about the agent and has none."""
    return [
        CallRecord(
            id=record_id(host, one.room, one.identity, began, one.id),
            host=host,
            kind="test",
            started_at=round(began + one.started_s, 3),
            ended_at=None if one.ended_s is None else round(began + one.started_s + one.ended_s, 3),
            answer_s=one.audio_s,
            outcome=_OUTCOMES.get(kind, "failed"),
            detail="" if kind is None else kind.value,
        )
        for one in results
        if (kind := one.failure.kind if one.failure else None) is not FailureKind.CALLER
    ]
