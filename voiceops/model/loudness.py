"""When does somebody speak? Decided on 16-bit samples, with no clock of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import mul

THRESHOLD_RMS = 100
"""About -50 dBFS: a decoder's comfort noise stays below, a whisper is above."""
CONFIRM_S = 0.06
"""That much loud sound makes a voice: a single click is none."""
QUIET_S = 0.6
"""That much silence ends it: pauses between words are shorter."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A change: somebody began to speak, or has stopped."""

    speaking: bool
    at: float
    """The first loud frame, or the last."""
    rms: int = 0
    peak: int = 0


class Loudness:
    """Feed it frames; it says when a voice begins and when it has ended."""

    def __init__(self) -> None:
        self.speaking = False
        self._loud_s = 0.0
        self._first_loud_at = 0.0
        self._last_loud_at = 0.0
        self._energy = 0
        self._samples = 0
        self._peak = 0

    def feed(self, samples: memoryview, duration_s: float, at: float) -> Voice | None:
        """Take one frame of 16-bit samples that arrived at ``at``."""
        energy = sum(map(mul, samples, samples))
        loud = bool(len(samples)) and math.sqrt(energy / len(samples)) >= THRESHOLD_RMS
        if loud:
            return self._hear(samples, energy, duration_s, at)
        if self.speaking and at - self._last_loud_at >= QUIET_S:
            self.speaking = False
            self._forget()
            return Voice(False, self._last_loud_at)
        if not self.speaking and self._loud_s and at - self._last_loud_at >= QUIET_S:
            self._forget()
        return None

    def _hear(self, samples: memoryview, energy: int, duration_s: float, at: float) -> Voice | None:
        if not self._loud_s:
            self._first_loud_at = at
        self._loud_s += duration_s
        self._last_loud_at = at
        self._energy += energy
        self._samples += len(samples)
        self._peak = max(self._peak, max(samples), -min(samples))
        if self.speaking or self._loud_s < CONFIRM_S:
            return None
        self.speaking = True
        return Voice(True, self._first_loud_at, round(math.sqrt(self._energy / self._samples)), self._peak)

    def _forget(self) -> None:
        self._loud_s = 0.0
        self._energy = self._samples = self._peak = 0


class PauseMeter:
    """Measures silences between sounds, in steps of 10 ms, by what is heard and not by when it is worked on."""

    def __init__(self, rate: int = 16_000) -> None:
        self.longest_s = 0.0
        self._block = rate // 100
        self._quiet = 0
        self._heard = False

    def feed(self, samples: memoryview) -> float:
        """Take one frame; the length of a silence that has just ended and is the longest so far, else 0."""
        found = 0.0
        for start in range(0, len(samples), self._block):
            block = samples[start : start + self._block]
            energy = sum(map(mul, block, block))
            if math.sqrt(energy / len(block)) < THRESHOLD_RMS:
                self._quiet += 1
                continue
            pause_s = self._quiet / 100
            if self._heard and pause_s > self.longest_s:
                self.longest_s = found = pause_s
            self._heard, self._quiet = True, 0
        return found
