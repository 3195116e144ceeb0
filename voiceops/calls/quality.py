"""How well a caller hears the agent, from what WebRTC counts. Pure: readings in, figures out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from voiceops.model.calls import LineMeasured

WORST, BEST = 1.0, 4.4
"""Mean opinion scores that the E-model gives to narrow-band speech: nothing is heard, nothing is wrong."""
WINDOW_S = 5.0
"""Quality is that of the worst stretch of this length: a gap of 1 s must not vanish in a call of an hour."""
_FULL_WINDOW = 0.9
_LOSS_ROBUSTNESS = 10.0
"""``Bpl`` of G.107 for a codec with concealment: 10 % of missing audio costs half of what all of it would."""


def mean_opinion_score(*, missing: float, delay_s: float) -> float:
    """The E-model (ITU-T G.107) without echo and noise: ``missing`` is a share of the audio, 0 to 1."""
    delay_ms = delay_s * 1000
    late = 0.024 * delay_ms + (0.11 * (delay_ms - 177.3) if delay_ms > 177.3 else 0.0)
    percent = missing * 100
    rating = 93.2 - late - 95.0 * percent / (percent + _LOSS_ROBUSTNESS)
    rating = min(100.0, max(0.0, rating))
    score = 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6
    return round(min(BEST, max(WORST, score)), 2)


@dataclass(slots=True)
class QualityMeter:
    """Takes readings of one call in order; an agent that is replaced brings another track."""

    max_gap_s: float = 0.0
    max_gap_at_s: float = 0.0
    jitter_s: float = 0.0
    round_trip_s: float = 0.0
    _received: int = 0
    _lost: int = 0
    _gap_s: float = 0.0
    _worst: float | None = None
    _worst_at_s: float = 0.0
    _window: deque[tuple[float, LineMeasured]] = field(default_factory=deque)
    _score: float | None = None

    def take(self, now: LineMeasured, at_s: float) -> None:
        """Note one reading, ``at_s`` seconds after the call began."""
        before = self._window[-1][1] if self._window else None
        if before is not None and before.track != now.track:
            self._window.clear()
            before = None
        self.jitter_s = max(self.jitter_s, now.jitter_s)
        self.round_trip_s = max(self.round_trip_s, now.round_trip_s)
        if before is not None:
            self._received += now.received - before.received
            self._lost += max(0, now.lost - before.lost)
            self._note_gap(before, now, at_s)
        self._window.append((at_s, now))
        while len(self._window) > 2 and at_s - self._window[0][0] > WINDOW_S:
            self._window.popleft()
        self._note_score(at_s)

    @property
    def loss(self) -> float:
        expected = self._received + self._lost
        return self._lost / expected if expected else 0.0

    @property
    def worst(self) -> float | None:
        """The score of the worst window; None before there was anything to compare."""
        return self._score if self._worst is None else self._worst

    @property
    def worst_at_s(self) -> float:
        """The middle of that window."""
        return self._worst_at_s

    def _note_gap(self, before: LineMeasured, now: LineMeasured, at_s: float) -> None:
        missing_s = now.concealed_s - before.concealed_s
        begun = now.concealments - before.concealments
        if missing_s <= 0:
            return
        # Without a new stretch it is the last one that goes on; several within one reading count as one.
        self._gap_s = missing_s if begun else self._gap_s + missing_s
        if self._gap_s > self.max_gap_s:
            self.max_gap_s, self.max_gap_at_s = self._gap_s, max(0.0, at_s - self._gap_s)

    def _note_score(self, at_s: float) -> None:
        began_s, first = self._window[0]
        now = self._window[-1][1]
        heard_s = now.heard_s - first.heard_s
        if heard_s <= 0:
            return
        buffered_s = max(0.0, now.buffered_s - first.buffered_s) / heard_s
        score = mean_opinion_score(
            missing=min(1.0, (now.concealed_s - first.concealed_s) / heard_s),
            delay_s=now.round_trip_s / 2 + buffered_s,
        )
        self._score = score
        full = at_s - began_s >= WINDOW_S * _FULL_WINDOW
        if full and (self._worst is None or score < self._worst):
            self._worst, self._worst_at_s = score, (began_s + at_s) / 2
