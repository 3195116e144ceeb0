"""Reads the WAV files that callers speak."""

from __future__ import annotations

import sys
import wave
from array import array
from dataclasses import dataclass
from pathlib import Path

from voiceops.errors import UsageError

_QUIET = 100
"""Samples below that at the end are a pause, not a word."""


@dataclass(frozen=True, slots=True)
class SpokenSamples:
    """Mono 16-bit samples without the silence at their end."""

    samples: array[int]
    rate: int

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate


def read_wav(file: str) -> SpokenSamples:
    """Read 16-bit PCM, mixed down to one channel; ``UsageError`` says what is wrong with the file."""
    try:
        with wave.open(str(Path(file)), "rb") as source:
            channels, width, rate = source.getnchannels(), source.getsampwidth(), source.getframerate()
            data = source.readframes(source.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise UsageError(
            f"can't read {file}: {error}", hint="--script takes a WAV file with 16-bit PCM"
        ) from error
    if width != 2:
        raise UsageError(
            f"{file} has {width * 8}-bit samples", hint="convert it: ffmpeg -i IN -c:a pcm_s16le OUT.wav"
        )
    samples = array("h")
    samples.frombytes(data[: len(data) - len(data) % (2 * channels)])
    if sys.byteorder == "big":
        samples.byteswap()
    if channels > 1:
        parts = [samples[channel::channels] for channel in range(channels)]
        samples = array("h", (sum(values) // channels for values in zip(*parts, strict=True)))
    last = next((at for at in range(len(samples) - 1, -1, -1) if abs(samples[at]) > _QUIET), -1)
    if last < 0:
        raise UsageError(f"{file} holds nothing but silence", hint="--script needs a file with speech in it")
    return SpokenSamples(samples[: last + 1], rate)
