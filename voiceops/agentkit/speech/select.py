"""Select STT, LLM and TTS: the cloud's where keys are set, else what is on board.

| in the environment | hears with | thinks with | speaks with |
|---|---|---|---|
| LIVEKIT_INFERENCE_API_KEY and _SECRET | LiveKit Inference | LiveKit Inference | LiveKit Inference |
| OPENAI_API_KEY | OpenAI | OpenAI | OpenAI |
| DEEPGRAM_API_KEY too | Deepgram | | |
| CARTESIA_API_KEY too | | | Cartesia |
| nothing | what was said is kept, not understood | - | espeak-ng |

Models are chosen by VOICEOPS_STT, VOICEOPS_LLM and VOICEOPS_TTS, in the provider's words.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from voiceops.model.environment import PROVIDER_KEYS

if TYPE_CHECKING:
    from livekit.agents import AgentSession

    from voiceops.agentkit.speech.offline import OfflineStt

_INFERENCE_MODELS = {"STT": "deepgram/nova-3", "LLM": "openai/gpt-4.1-mini", "TTS": "cartesia/sonic-3"}


class MissingPackageError(Exception):
    """A key is set, and the package that uses it is not installed."""


@dataclass(frozen=True)
class Speech:
    """What ``speech_from_environment`` chose. ``session()`` makes an AgentSession of it."""

    stt: Callable[[], object]
    llm: Callable[[], object] | None
    """None: there is no mind; the agent follows a script."""
    tts: Callable[[], object]
    providers: Mapping[str, str] = field(default_factory=dict)
    """Who hears, thinks and speaks."""

    @property
    def offline(self) -> bool:
        """Whether the agent has to get by without understanding words."""
        return self.llm is None

    def session(self, **options: Any) -> AgentSession[Any]:
        """A new AgentSession; ``options`` go to its constructor and win."""
        from livekit.agents import AgentSession

        parts: dict[str, Any] = {"stt": self.stt(), "tts": self.tts()}
        if self.llm is not None:
            parts["llm"] = self.llm()
        else:
            # The default is a turn detector that reads the transcript: there is none.
            parts["turn_handling"] = {"turn_detection": "vad"}
            # Nor a transcript to wait for when the call is over.
            parts["session_close_transcript_timeout"] = 0.0
        return AgentSession(**(parts | options))


def speech_from_environment(environment: Mapping[str, str] = os.environ) -> Speech:
    """Choose by the keys in ``environment``; call it when the agent's module is imported.

    The provider's package is imported here, so that it is loaded once and not in the first
    second of a call. ``MissingPackageError`` names the package that a key asks for.
    """
    has = {provider: bool(environment.get(key)) for provider, key in PROVIDER_KEYS.items()}
    if has["inference"]:
        return _cloud(environment, stt="inference", llm="inference", tts="inference")
    if not has["openai"]:
        return _offline()
    return _cloud(
        environment,
        stt="deepgram" if has["deepgram"] else "openai",
        llm="openai",
        tts="cartesia" if has["cartesia"] else "openai",
    )


def heard(session: AgentSession[Any]) -> OfflineStt | None:
    """The offline STT of a session, or None when it has a real one."""
    from voiceops.agentkit.speech.offline import OfflineStt

    return session.stt if isinstance(session.stt, OfflineStt) else None


def _offline() -> Speech:
    from voiceops.agentkit.speech.offline import OfflineStt, OfflineTts

    return Speech(stt=OfflineStt, llm=None, tts=OfflineTts, providers={"stt": "offline", "tts": "offline"})


def _cloud(environment: Mapping[str, str], **providers: str) -> Speech:
    makers = {kind: _maker(environment, kind.upper(), provider) for kind, provider in providers.items()}
    return Speech(stt=makers["stt"], llm=makers["llm"], tts=makers["tts"], providers=providers)


def _maker(environment: Mapping[str, str], kind: str, provider: str) -> Callable[[], object]:
    if provider == "inference":
        module = import_module("livekit.agents.inference")
    else:
        try:
            module = import_module(f"livekit.plugins.{provider}")
        except ImportError as error:
            package = f"livekit-plugins-{provider}"
            raise MissingPackageError(
                f"{PROVIDER_KEYS[provider]} is set, but the package {package} is not installed where the agent runs "
                f"({sys.prefix}): install it into the environment of the service's `python` setting, "
                "as examples/README.md shows"
            ) from error
    model = environment.get(f"VOICEOPS_{kind}") or (
        _INFERENCE_MODELS[kind] if provider == "inference" else ""
    )
    arguments = {"model": model} if model else {}
    return lambda: getattr(module, kind)(**arguments)
