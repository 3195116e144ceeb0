"""Keys in the environment choose the ears, the mind and the voice."""

from __future__ import annotations

import importlib.util

import pytest

from voiceops.agentkit.offline import OfflineEars, OfflineVoice
from voiceops.agentkit.speech import MissingPackageError, speech_from_environment


def test_without_keys_the_agent_is_offline() -> None:
    speech = speech_from_environment({})

    assert speech.offline
    assert speech.stt is OfflineEars
    assert speech.tts is OfflineVoice


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
    async with OfflineVoice().synthesize("Hello.") as stream:
        seconds = sum([event.frame.duration async for event in stream])

    assert 0.2 < seconds < 5
