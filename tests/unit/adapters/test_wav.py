from __future__ import annotations

import wave
from array import array
from pathlib import Path

import pytest

from voiceops.adapters.wav import read_wav
from voiceops.errors import UsageError


def write(file: Path, samples: list[int], *, channels: int = 1, width: int = 2) -> str:
    with wave.open(str(file), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(8000)
        out.writeframes(array("h", samples).tobytes() if width == 2 else bytes(samples))
    return str(file)


def test_the_silence_at_the_end_is_not_part_of_the_words(tmp_path: Path) -> None:
    speech = read_wav(write(tmp_path / "a.wav", [0, 5000, -5000, 0, 3, 0]))
    assert list(speech.samples) == [0, 5000, -5000]
    assert speech.rate == 8000


def test_several_channels_are_mixed(tmp_path: Path) -> None:
    speech = read_wav(write(tmp_path / "a.wav", [1000, 3000, -4000, 0], channels=2))
    assert list(speech.samples) == [2000, -2000]


def test_what_is_no_speech_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing but silence"):
        read_wav(write(tmp_path / "quiet.wav", [0] * 100))
    with pytest.raises(UsageError, match="8-bit"):
        read_wav(write(tmp_path / "old.wav", [128] * 100, width=1))
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(UsageError, match="can't read"):
        read_wav(str(tmp_path / "text.wav"))
    with pytest.raises(UsageError, match="can't read"):
        read_wav(str(tmp_path / "missing.wav"))
