"""TTS and STT that need no cloud account: espeak-ng speaks, and what was heard is kept.

The voice is the library in the ``espeakng-loader`` wheel, called through ctypes. The
"recogniser" does not recognise: it keeps the caller's audio so that the agent can play it
back. Both stand where a cloud provider's TTS and STT stand.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import APIConnectOptions, LanguageCode, stt, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr

_AUDIO_OUTPUT_RETRIEVAL = 1
_CHARS_UTF8 = 1
_DONT_EXIT = 0x8000
"""Of espeak_Initialize: without it a library that misses its data ends the process of the call."""
_LONGEST_DATA_PATH = 100
"""espeak-ng keeps the path in 160 bytes, and names of files follow it there."""
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class _ShortPath:
    """A folder under a name that is short enough for espeak-ng, as long as this object lives.

    On Linux the name of an open descriptor: nobody else can put anything there, and a process
    that is killed leaves nothing behind.
    """

    def __init__(self, folder: Path) -> None:
        self.path = os.fsencode(folder)
        self._descriptor: int | None = None
        self._links: tempfile.TemporaryDirectory[str] | None = None
        if len(self.path) <= _LONGEST_DATA_PATH:
            return
        if sys.platform.startswith("linux"):
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            self.path = f"/proc/self/fd/{self._descriptor}".encode()
        else:
            self._links = tempfile.TemporaryDirectory(prefix="voiceops-")
            link = Path(self._links.name) / "data"
            link.symlink_to(folder, target_is_directory=True)
            self.path = os.fsencode(link)

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _Espeak:
    """The espeak-ng library; it has one global state, so one lock."""

    def __init__(self, voice: str) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise RuntimeError("the offline voice needs a package: pip install espeakng-loader") from error
        self._lock = threading.Lock()
        self._chunks: list[bytes] = []
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        # Kept as an attribute: the library calls it long after this method returned.
        self._callback = _Callback(self._collect)
        self._data = _ShortPath(Path(espeakng_loader.get_data_path()))
        rate = self._library.espeak_Initialize(_AUDIO_OUTPUT_RETRIEVAL, 0, self._data.path, _DONT_EXIT)
        if rate <= 0:
            raise RuntimeError(f"espeak-ng can't read its data in {espeakng_loader.get_data_path()}")
        self.sample_rate: int = rate
        self._library.espeak_SetSynthCallback(self._callback)
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice!r}")

    def _collect(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, count * 2))
        return 0

    def say(self, text: str) -> bytes:
        """16-bit mono PCM of ``text``; about 2 ms for a sentence."""
        data = text.encode()
        with self._lock:
            self._chunks.clear()
            self._library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
            self._library.espeak_Synchronize()
            return b"".join(self._chunks)


class OfflineTts(tts.TTS[object]):
    """espeak-ng as a LiveKit TTS."""

    def __init__(self, *, voice: str = "en-us") -> None:
        self._espeak = _Espeak(voice)
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=self._espeak.sample_rate,
            num_channels=1,
        )

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _Speech(tts=self, input_text=text, conn_options=conn_options, espeak=self._espeak)


class _Speech(tts.ChunkedStream):
    def __init__(self, *, espeak: _Espeak, **arguments: Any) -> None:
        self._espeak = espeak
        super().__init__(**arguments)

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=self._espeak.sample_rate,
            num_channels=1,
            mime_type="audio/pcm",
        )
        output_emitter.push(await asyncio.to_thread(self._espeak.say, self.input_text))
        output_emitter.flush()


class OfflineStt(stt.STT[object]):
    """Keeps what the caller said last in ``heard``, and reports how long it was."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self.heard: rtc.AudioFrame | None = None

    async def playback(self) -> AsyncIterator[rtc.AudioFrame]:
        """What the caller said last, for ``session.say(text, audio=...)``."""
        if self.heard is not None:
            yield self.heard

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        self.heard = rtc.combine_audio_frames(buffer)
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT,
            alternatives=[
                stt.SpeechData(
                    language=LanguageCode("en"), text=f"{self.heard.duration:.1f} seconds of speech"
                )
            ],
        )
