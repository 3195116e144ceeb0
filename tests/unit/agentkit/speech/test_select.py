"""Keys in the environment choose the ears, the mind and the voice."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import espeakng_loader
import pytest

from voiceops.agentkit.speech.offline import OfflineStt, OfflineTts
from voiceops.agentkit.speech.select import MissingPackageError, speech_from_environment


def test_without_keys_the_agent_is_offline() -> None:
    speech = speech_from_environment({})

    assert speech.offline
    assert speech.stt is OfflineStt
    assert speech.tts is OfflineTts


def test_a_key_without_its_package_names_the_package() -> None:
    if importlib.util.find_spec("livekit.plugins") and importlib.util.find_spec("livekit.plugins.openai"):
        pytest.skip("livekit-plugins-openai is installed here")

    with pytest.raises(MissingPackageError, match="package livekit-plugins-openai is not installed"):
        speech_from_environment({"OPENAI_API_KEY": "key"})


def test_livekit_inference_serves_all_three() -> None:
    speech = speech_from_environment({"LIVEKIT_INFERENCE_API_KEY": "key"})

    assert dict(speech.providers) == {"stt": "inference", "llm": "inference", "tts": "inference"}
    assert not speech.offline


async def test_the_offline_voice_speaks() -> None:
    async with OfflineTts().synthesize("Hello.") as stream:
        seconds = sum([event.frame.duration async for event in stream])

    assert 0.2 < seconds < 5


LONG = """
import sys
sys.path.insert(0, sys.argv[1])
import espeakng_loader
assert espeakng_loader.get_data_path().startswith(sys.argv[1])
from voiceops.agentkit.speech.offline import OfflineTts
voice = OfflineTts()
print(len(voice._espeak.say("The path is long.")), voice.sample_rate)
"""


@pytest.mark.parametrize("length", [155, 900])
def test_the_offline_voice_speaks_from_a_folder_with_a_long_path(tmp_path: Path, length: int) -> None:
    folder = tmp_path
    while len(str(folder)) < length:
        folder /= "d" * min(120, max(1, length - len(str(folder)) - 1))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "espeakng_loader").symlink_to(Path(espeakng_loader.__file__).parent)
    argv = [sys.executable, "-c", LONG, str(folder)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=110)
    assert ended.stderr == ""
    size, rate = map(int, ended.stdout.split())
    assert size > rate  # half a second of 16 bit


def test_a_voice_that_misses_its_data_raises_instead_of_ending_the_process(tmp_path: Path) -> None:
    code = f"""
import espeakng_loader
from voiceops.agentkit.speech.offline import OfflineTts
espeakng_loader.get_data_path = lambda: {str(tmp_path)!r}
try:
    OfflineTts()
except RuntimeError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=110
    )
    assert ended.stdout == f"espeak-ng can't read its data in {tmp_path}\n"
