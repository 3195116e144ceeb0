"""LiveKit's server API over HTTP: rooms, participants, dispatches.

One session, one deadline per call, bounded concurrency. Every foreign error leaves here as
one of ``voiceops.errors``. The protobuf messages are livekit's own; the requests are made here
because livekit-api's client signs with PyJWT on every request and hides the plain-text body by
which a wrong key and a missing grant are told apart (cleaning 2,000 rooms took a third longer).
"""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import NoReturn, TypeVar

import aiohttp
from google.protobuf.message import DecodeError, Message
from livekit.protocol import agent_dispatch, models
from livekit.protocol import room as rooms_pb

from voiceops.adapters.livekit import messages
from voiceops.adapters.livekit.endpoint import clock_skew_s, http_base
from voiceops.adapters.livekit.token import sign_token
from voiceops.errors import (
    ConfigError,
    CredentialsError,
    NotFoundError,
    NotListeningError,
    RateLimitedError,
    UnreachableError,
    UsageError,
    VoiceopsError,
)
from voiceops.model.rooms import Dispatch, Participant, Room
from voiceops.model.secret import Secret

CALL_TIMEOUT_S = 10.0
CONCURRENCY = 64
_TOKEN_LIFE_S = 600
RATE_LIMIT_DELAYS_S = (0.2, 0.4, 0.8)
"""Before each further try after a 429 that does not say when to come again."""
_ROOMS = "RoomService"
_DISPATCHES = "AgentDispatchService"

Answer = TypeVar("Answer", bound=Message)


class LivekitApi:
    """Implements ``AgentRoomApi`` on a LiveKit server.

        async with LivekitApi(url, key, secret) as api:
            print(await api.list_rooms())

    ``url`` is ws, wss, http or https. At most ``concurrency`` calls are on the wire at a time;
    the others wait, and their ``timeout_s`` starts when they are sent. Self-hosted servers get
    exactly one attempt per call: retries belong to whoever knows what may be repeated. Only what
    was refused with 429, and so has had no effect, is sent again within ``timeout_s``.
    """

    def __init__(
        self,
        url: str,
        api_key: Secret,
        api_secret: Secret,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        concurrency: int = CONCURRENCY,
        server_id: str = "",
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._base = http_base(url)
        if not api_key or not api_secret:
            raise ConfigError(
                "no LiveKit API key and secret are configured",
                path="livekit.api_key",
                hint="set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or livekit.api_key and api_secret",
            )
        self._url = server_id or url
        self._on_close = on_close
        self._key, self._secret = api_key, api_secret
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._slots = asyncio.Semaphore(concurrency)
        self._session: aiohttp.ClientSession | None = None
        self._dated: tuple[str, float] | None = None

    @property
    def url(self) -> str:
        return self._url

    @property
    def clock_skew_s(self) -> float:
        """Seconds that the server's clock was ahead of ours at its last answer; whole seconds count.

        Ages are differences to times of the server's clock, so they need its clock, not ours.
        """
        if self._dated is None:
            return 0.0
        return clock_skew_s(*self._dated)

    async def __aenter__(self) -> LivekitApi:
        # A session belongs to the loop that runs while it is made. limit=0: the pool's own queue
        # would count waiting for a slot as part of the call's time.
        self._session = aiohttp.ClientSession(timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        self._on_close()

    async def list_rooms(self, names: Sequence[str] = ()) -> tuple[Room, ...]:
        answer = await self._call(
            _ROOMS,
            "ListRooms",
            rooms_pb.ListRoomsRequest(names=names),
            {"roomList": True},
            rooms_pb.ListRoomsResponse,
        )
        return tuple(messages.room(one) for one in answer.rooms)

    async def create_room(
        self,
        name: str,
        *,
        empty_timeout_s: int = 0,
        departure_timeout_s: int = 0,
        agents: Sequence[str] = (),
        agent_metadata: str = "",
    ) -> Room:
        request = rooms_pb.CreateRoomRequest(
            name=_named(name),
            empty_timeout=empty_timeout_s,
            departure_timeout=departure_timeout_s,
            agents=[
                agent_dispatch.RoomAgentDispatch(agent_name=one, metadata=agent_metadata) for one in agents
            ],
        )
        return messages.room(
            await self._call(_ROOMS, "CreateRoom", request, {"roomCreate": True}, models.Room)
        )

    async def delete_room(self, name: str) -> None:
        request = rooms_pb.DeleteRoomRequest(room=_named(name))
        await self._call(_ROOMS, "DeleteRoom", request, {"roomCreate": True}, rooms_pb.DeleteRoomResponse)

    async def list_participants(self, room: str) -> tuple[Participant, ...]:
        request = rooms_pb.ListParticipantsRequest(room=_named(room))
        answer = await self._call(
            _ROOMS, "ListParticipants", request, _admin(room), rooms_pb.ListParticipantsResponse
        )
        return tuple(messages.participant(one) for one in answer.participants)

    async def remove_participant(self, room: str, identity: str) -> None:
        request = rooms_pb.RoomParticipantIdentity(room=_named(room), identity=identity)
        await self._call(
            _ROOMS, "RemoveParticipant", request, _admin(room), rooms_pb.RemoveParticipantResponse
        )

    async def create_dispatch(self, room: str, agent_name: str = "", metadata: str = "") -> Dispatch:
        request = agent_dispatch.CreateAgentDispatchRequest(
            room=_named(room), agent_name=agent_name, metadata=metadata
        )
        return messages.dispatch(
            await self._call(
                _DISPATCHES, "CreateDispatch", request, _admin(room), agent_dispatch.AgentDispatch
            )
        )

    async def list_dispatches(self, room: str) -> tuple[Dispatch, ...]:
        request = agent_dispatch.ListAgentDispatchRequest(room=_named(room))
        answer = await self._call(
            _DISPATCHES, "ListDispatch", request, _admin(room), agent_dispatch.ListAgentDispatchResponse
        )
        return tuple(messages.dispatch(one) for one in answer.agent_dispatches)

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        request = agent_dispatch.DeleteAgentDispatchRequest(room=_named(room), dispatch_id=dispatch_id)
        await self._call(_DISPATCHES, "DeleteDispatch", request, _admin(room), agent_dispatch.AgentDispatch)

    async def _call(
        self, service: str, method: str, request: Message, grant: Mapping[str, object], answer: type[Answer]
    ) -> Answer:
        ends_at = time.monotonic() + (self._timeout.total or 0.0)
        for delay_s in RATE_LIMIT_DELAYS_S:
            try:
                return await self._call_once(service, method, request, grant, answer)
            except RateLimitedError as error:
                wait_s = delay_s if error.retry_after_s is None else error.retry_after_s
                if time.monotonic() + wait_s >= ends_at:
                    raise
                await asyncio.sleep(wait_s)
        return await self._call_once(service, method, request, grant, answer)

    async def _call_once(
        self, service: str, method: str, request: Message, grant: Mapping[str, object], answer: type[Answer]
    ) -> Answer:
        if self._session is None:
            raise RuntimeError("LivekitApi is used outside its `async with` block")
        token = sign_token(self._key, self._secret, grant, ttl_s=_TOKEN_LIFE_S)
        try:
            async with (
                self._slots,
                self._session.post(
                    f"{self._base}/twirp/livekit.{service}/{method}",
                    data=request.SerializeToString(),
                    headers={
                        "Authorization": f"Bearer {token}",
                        "Content-Type": "application/protobuf",
                    },
                ) as response,
            ):
                body = await response.read()
                status = response.status
                retry_after = response.headers.get("Retry-After", "")
                if date := response.headers.get("Date"):
                    self._dated = (date, time.time())
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise translate(error, method, self._url) from None
        if status != 200:
            raise refusal(status, body, method, self._url, retry_after=retry_after)
        try:
            return answer.FromString(body)
        except DecodeError:
            _not_livekit(method, self._url, status)


def translate(error: BaseException, method: str, url: str) -> VoiceopsError:
    """What a failed transport means: nobody answers, or not in time. Always worth another try."""
    data = {"method": method, "url": url}
    if isinstance(error, aiohttp.InvalidURL):
        return ConfigError(f"{url!r} is no URL of a LiveKit server", path="livekit.url")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return UnreachableError(
            f"the certificate of LiveKit at {url} is not valid",
            data=data,
            hint="check livekit.url and the clock",
        )
    if isinstance(error, asyncio.TimeoutError):
        return UnreachableError(
            f"LiveKit at {url} did not answer {method} in time", data=data, retryable=True
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        refused = error.os_error.errno == errno.ECONNREFUSED
        return (NotListeningError if refused else UnreachableError)(
            f"LiveKit at {url} can't be reached: {error.os_error.strerror or 'no connection'}",
            data=data,
            hint="is the server running? `inv start --only livekit`, or fix livekit.url",
            retryable=True,
        )
    return UnreachableError(
        f"the connection to LiveKit at {url} broke during {method} ({type(error).__name__})",
        data=data,
        retryable=True,
    )


def refusal(status: int, body: bytes, method: str, url: str, *, retry_after: str = "") -> VoiceopsError:
    """What an answer other than 200 means. A 401 may echo the token: its body is never shown.

    ``retry_after`` is the header of that name.
    """
    code, message = _twirp(body)
    data = {"method": method, "url": url, "status": status, "code": code}
    if status in (401, 403):
        cause = "the API key lacks a grant" if code else "the API key or secret is wrong"
        return CredentialsError(
            f"LiveKit at {url} refuses {method}: {cause}",
            data=data,
            hint="compare livekit.api_key and livekit.api_secret with the server's keys; check both clocks",
        )
    if status == 404 and code == "not_found":
        return NotFoundError(f"LiveKit knows no such thing: {message or method}", data=data)
    if status == 429:  # also from a proxy before LiveKit, whose body is no Twirp error
        return RateLimitedError(
            f"LiveKit at {url} takes no more requests for now: {message or method}",
            retry_after_s=_seconds_until(retry_after),
            data=data,
        )
    if code == "bad_route" or (status < 500 and not code):
        return UnreachableError(
            f"what answers at {url} is not LiveKit's API (status {status})",
            data=data,
            hint="fix livekit.url: host, port and path of the LiveKit server",
        )
    if status in (408, 503):
        return UnreachableError(
            f"LiveKit at {url} could not do {method}: {message or code or status}", data=data, retryable=True
        )
    if status == 400:
        return UsageError(f"LiveKit refuses {method}: {message or code}", data=data)
    return VoiceopsError(
        f"LiveKit failed {method}: {message or code or 'no reason given'} (status {status})",
        data=data,
        retryable=status >= 500,
    )


def _seconds_until(retry_after: str) -> float | None:
    """Retry-After is a number of seconds or a date (RFC 9110, 10.2.3); None for anything else."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def _twirp(body: bytes) -> tuple[str, str]:
    """Code and message of a Twirp error; both empty if the body is none."""
    try:
        document = json.loads(body)
    except ValueError:
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    message = str(document.get("msg", ""))
    # psrpc errors arrive wrapped once more.
    return str(document.get("code", "")), message.removeprefix("twirp error unknown: ")


def _not_livekit(method: str, url: str, status: int) -> NoReturn:
    raise UnreachableError(
        f"what answers at {url} is not LiveKit's API",
        data={"method": method, "url": url, "status": status},
        hint="fix livekit.url: host, port and path of the LiveKit server",
    )


def _named(room: str) -> str:
    """LiveKit takes any text but the empty one, and protobuf any text but lone surrogates."""
    if not room:
        raise UsageError("the room has no name", hint="give the name of a room; `inv rooms.list` shows them")
    try:
        room.encode()
    except UnicodeEncodeError:
        raise UsageError(
            "the room's name is no valid Unicode", hint="the terminal's encoding may not be UTF-8"
        ) from None
    return room


def _admin(room: str) -> dict[str, object]:
    return {"roomAdmin": True, "room": room}
