"""A phone whose line is written down beforehand, and callers that answer from a list.

``tests/contract/test_calls.py`` holds both to LiveKit's own client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from voiceops.calls.ports import Inquiry
from voiceops.errors import VoiceopsError
from voiceops.model.calls import CallJob, CallResult, PhoneEvent


class FakePhone:
    """Implements ``Phone``: ``events`` come in order, then nothing ever again."""

    def __init__(
        self,
        events: Sequence[PhoneEvent] = (),
        *,
        refuses: VoiceopsError | None = None,
        hangs: bool = False,
        answers: Sequence[PhoneEvent] = (),
        said_until: float | None = None,
    ) -> None:
        self._events = list(events)
        self._refuses = refuses
        self._hangs = hangs
        self._answers = answers
        self._said_until = said_until
        self.said: list[str] = []
        self.hung_up = False
        self.microphone = False

    async def dial(self, url: str, token: str) -> None:
        if self._refuses is not None:
            raise self._refuses
        if self._hangs:
            await asyncio.Event().wait()

    async def open_microphone(self) -> None:
        self.microphone = True

    async def next_event(self) -> PhoneEvent:
        if not self._events:
            await asyncio.Event().wait()
        return self._events.pop(0)

    async def say(self, wav: str) -> float:
        assert self.microphone, "open_microphone() comes first"
        self.said.append(wav)
        self._events += self._answers
        return time.monotonic() if self._said_until is None else self._said_until

    async def hang_up(self) -> None:
        self.hung_up = True


class FakeCallers:
    """Implements ``Callers``: ``answer`` makes each result; counts how many calls overlap."""

    def __init__(self, answer: Callable[[CallJob], CallResult] | None = None) -> None:
        self._answer = answer or good
        self.jobs: list[CallJob] = []
        self.most_at_once = 0
        self._at_once = 0

    async def place(self, job: CallJob, inquire: Inquiry | None = None) -> CallResult:
        self.jobs.append(job)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        result = self._answer(job)
        if not result.ok and inquire is not None:
            await inquire(result)
        self._at_once -= 1
        return result

    async def usage(self) -> tuple[int, float, Sequence[float]]:
        return 1, 0.0, ()

    async def aclose(self) -> None:
        return


def good(job: CallJob) -> CallResult:
    """A call that went well."""
    return CallResult(
        id=job.id,
        ok=True,
        room=job.room,
        identity=job.identity,
        hangup=job.hangup,
        connect_s=0.1,
        agent_s=0.3,
        audio_s=0.4 + job.id / 100,
        agent="agent-1",
    )
