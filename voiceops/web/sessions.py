"""A caller's session: a room that nobody else knows, with an agent on its way, and a token for it alone."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine

import msgspec

from voiceops.adapters.livekit.token import room_token, verified_claims
from voiceops.errors import CredentialsError, DeadlineError, VoiceopsError
from voiceops.model.secret import Secret
from voiceops.model.settings import RoomsSettings
from voiceops.ports import AgentRoomApi
from voiceops.rooms.dispatch import dispatch_agent
from voiceops.rooms.removal import cleanup_room
from voiceops.rooms.waiting import AgentNotReadyError, wait_for_agent

log = logging.getLogger(__name__)

TOKEN_LIFE_S = 600.0
SESSION_TIMEOUT_S = 8.0
"""Less than a page waits for its agent."""
ROOM_PREFIX = "web-"
END_AFTER_S = 0.5
"""The agent deletes the room at a ``room_cleanup`` message: two deletes within 0.1 s would make it anew."""
_MOST_TICKETS = 10_000
_ENDED = ""
"""Of a ticket whose session is over, or will be as soon as it is made."""
LOOK_AGAIN_S = 3.5
"""A dispatch in flight makes a deleted room anew within so long; and that room has a dispatch of its own."""
_MOST_LOOKS = 8


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a browser gets."""

    url: str
    token: str
    expires_s: float
    """From now on."""


class Sessions:
    """Makes and ends sessions on one LiveKit."""

    def __init__(
        self,
        api: AgentRoomApi,
        api_key: Secret,
        api_secret: Secret,
        *,
        browser_url: str,
        agent_name: str,
        on_cause: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._key, self._secret = api_key, api_secret
        self._browser_url = browser_url
        self._agent_name = agent_name
        self._on_cause = on_cause
        self._clock = clock
        self._background: set[asyncio.Task[None]] = set()
        self._ending: set[str] = set()
        self._tickets: dict[str, str] = {}

    async def make(self, ticket: str | None = None) -> Session:
        """Make a room with an agent on its way; ``VoiceopsError`` where LiveKit does not, in time.

        ``ticket``: what ``end_by_ticket`` may end it by, also before it is made.
        """
        room, identity = f"{ROOM_PREFIX}{secrets.token_hex(8)}", f"caller-{secrets.token_hex(6)}"
        try:
            await asyncio.wait_for(dispatch_agent(self._api, room, self._agent_name), SESSION_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise DeadlineError(f"LiveKit made no room within {SESSION_TIMEOUT_S:g} s") from None
        if ticket is not None and self._note_ticket(ticket, room) == _ENDED:
            self._end_room(room)
        return self._session(room, identity)

    def end_by_ticket(self, ticket: str) -> None:
        """Let the room of the session that was asked for with it end, now or as soon as it is made."""
        room = self._note_ticket(ticket, _ENDED)
        if room:
            self._end_room(room)

    def _note_ticket(self, ticket: str, room: str) -> str | None:
        """Remember what a ticket is for; what it was for."""
        before = self._tickets.pop(ticket, None)
        self._tickets[ticket] = room
        if len(self._tickets) > _MOST_TICKETS:
            self._tickets.pop(next(iter(self._tickets)))
        return before

    def renew(self, token: str) -> Session:
        """Return a fresh token for the room and identity of a valid one; ``CredentialsError`` for any other."""
        return self._session(*self._bearer(token))

    def end(self, token: str, *, unanswered: bool = False) -> None:
        """Let the room of this token end, in the background; safe to call again.

        ``unanswered``: no agent came, so what LiveKit knows of the cause is looked up before.
        """
        room, _ = self._bearer(token)
        self._end_room(room, unanswered=unanswered)

    def _end_room(self, room: str, *, unanswered: bool = False) -> None:
        if room in self._ending:
            return
        self._ending.add(room)
        self._in_background(self._end(room, unanswered))

    async def close(self) -> None:
        """Give up what still runs in the background."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def _session(self, room: str, identity: str) -> Session:
        token = room_token(self._key, self._secret, room, identity, ttl_s=TOKEN_LIFE_S)
        return Session(url=self._browser_url, token=token, expires_s=TOKEN_LIFE_S)

    def _bearer(self, token: str) -> tuple[str, str]:
        claims = verified_claims(token, self._key, self._secret, self._clock(), leeway_s=0.0)
        video = claims.get("video")
        room = video.get("room") if isinstance(video, dict) and video.get("roomJoin") is True else None
        identity = claims.get("sub")
        if not isinstance(room, str) or not isinstance(identity, str) or not room.startswith(ROOM_PREFIX):
            raise CredentialsError("the token is none of a session")
        return room, identity

    async def _end(self, room: str, unanswered: bool) -> None:
        try:
            if unanswered:
                await self._find_cause(room)
            await asyncio.sleep(END_AFTER_S)
            await self._delete(room)
            for _ in range(_MOST_LOOKS):
                await asyncio.sleep(LOOK_AGAIN_S)
                if not await self._delete(room):
                    break
        finally:
            self._ending.discard(room)

    async def _delete(self, room: str) -> bool:
        """Delete it; False if it is known that there was none."""
        try:
            return await cleanup_room(self._api, room, force=True, settings=RoomsSettings())
        except VoiceopsError as error:
            # The next look deletes what is still there; after the last one, the cleanup of rooms does.
            log.warning("a room could not be deleted", extra={"error": type(error).__name__})
            return True

    async def _find_cause(self, room: str) -> None:
        try:
            await wait_for_agent(self._api, room, self._agent_name, timeout_s=0.0)
            self._on_cause(
                "an agent is ready in the room, but the browser did not hear of it: media can't pass"
            )
        except AgentNotReadyError as error:
            self._on_cause(error.cause)
        except VoiceopsError as error:
            self._on_cause(error.message)

    def _in_background(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
