from __future__ import annotations

import math
from array import array

from voiceops.model.loudness import Loudness, Voice

FRAME_S = 0.02


def frame(amplitude: int) -> memoryview:
    return memoryview(array("h", (round(amplitude * math.sin(index / 3)) for index in range(320))))


def feed(amplitudes: list[int]) -> list[Voice]:
    loudness = Loudness()
    voices = (
        loudness.feed(frame(amplitude), FRAME_S, round(number * FRAME_S, 3))
        for number, amplitude in enumerate(amplitudes)
    )
    return [voice for voice in voices if voice is not None]


def test_a_voice_begins_with_its_first_loud_frame() -> None:
    (voice,) = feed([0] * 10 + [8000] * 10)
    assert voice.speaking
    assert voice.at == 0.2
    assert 5000 < voice.rms < 6000
    assert 7000 < voice.peak <= 8000


def test_silence_and_comfort_noise_are_no_voice() -> None:
    assert feed([0] * 50 + [60] * 50) == []


def test_a_click_is_no_voice() -> None:
    assert feed([0] * 10 + [20000] + [0] * 100 + [20000] + [0] * 50) == []


def test_a_pause_between_words_does_not_end_it_and_a_longer_one_does() -> None:
    started, stopped, again = feed([8000] * 10 + [0] * 20 + [8000] * 10 + [0] * 40 + [8000] * 10)
    assert (started.speaking, started.at) == (True, 0.0)
    assert (stopped.speaking, stopped.at) == (False, round(39 * FRAME_S, 3))
    assert (again.speaking, again.at) == (True, round(80 * FRAME_S, 3))


def test_the_loudest_negative_sample_is_a_peak_too() -> None:
    loudness = Loudness()
    loud = memoryview(array("h", [-32768] * 320))
    voices = [loudness.feed(loud, FRAME_S, number * FRAME_S) for number in range(5)]
    assert [voice.peak for voice in voices if voice] == [32768]


def test_an_empty_frame_says_nothing() -> None:
    assert Loudness().feed(memoryview(array("h")), 0.0, 0.0) is None
