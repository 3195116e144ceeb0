"""Why calls fail: in words for callers, and with what operators need."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence

import msgspec

from voiceops.errors import CredentialsError, VoiceopsError
from voiceops.ports import RoomApi

_REMEMBERED_S = 120.0
_COMMAND_S = 20.0
_CACHED_S = 5.0


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One finding: what anybody may read, and the operators' part."""

    code: str
    text: str
    detail: str = ""


class Causes:
    """Answers ``/api/why``. ``command`` prints the findings of `inv why` as JSON; empty: there is none here."""

    def __init__(
        self, api: RoomApi, command: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._command = command
        self._clock = clock
        self._unanswered: tuple[float, str] | None = None
        self._lock = asyncio.Lock()
        self._reported: tuple[float, tuple[Cause, ...]] | None = None

    def note(self, cause: str) -> None:
        """A call was not answered, for this reason."""
        self._unanswered = (self._clock(), cause)

    async def server(self) -> Cause | None:
        """What is wrong with LiveKit itself; None where it answers."""
        try:
            await self._api.list_rooms(["voiceops-health"])
        except CredentialsError as error:
            return Cause(
                code="server-refuses", text="The service is not set up correctly.", detail=error.message
            )
        except VoiceopsError as error:
            return Cause(
                code="server-unreachable", text="The voice server can't be reached.", detail=error.message
            )
        return None

    async def find(self, *, for_operator: bool) -> tuple[Cause, ...]:
        """Return what is known at once of why calls fail; without details but for operators."""
        found = [one for one in (await self.server(),) if one is not None]
        if not found and self._unanswered and self._clock() - self._unanswered[0] < _REMEMBERED_S:
            found.append(
                Cause(code="agent-missing", text="No agent took the call.", detail=self._unanswered[1])
            )
        if not for_operator:
            return tuple(msgspec.structs.replace(one, detail="") for one in found)
        return tuple(found)

    @property
    def can_report(self) -> bool:
        """Whether there is a diagnosis for operators besides, which takes some seconds."""
        return bool(self._command)

    async def report(self) -> tuple[Cause, ...]:
        """Return the findings of the command; one run at a time, and its answer counts for some seconds."""
        async with self._lock:
            if self._reported is None or self._clock() - self._reported[0] > _CACHED_S:
                self._reported = (self._clock(), await self._run())
            return self._reported[1]

    async def _run(self) -> tuple[Cause, ...]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _COMMAND_S)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()
            return (Cause(code="why", text="The diagnosis took too long.", detail="inv why"),)
        return read_report(output)


def read_report(output: bytes) -> tuple[Cause, ...]:
    """Return the findings in the JSON of `inv why`; one that says so where there are none to be read."""
    try:
        document = json.loads(output)
        return tuple(
            Cause(code=str(one["rule"]), text=str(one["cause"]), detail=str(one.get("fix") or ""))
            for one in document["findings"]
        )
    except (ValueError, KeyError, TypeError):
        return (Cause(code="why", text="The diagnosis could not be read.", detail="inv why"),)
