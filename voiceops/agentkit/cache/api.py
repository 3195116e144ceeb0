"""``cached``: an async function whose results are kept for a while, across all calls of a worker.

Each call runs in a process of its own, so a cache in the process would be empty in every
call. Under ``python -m voiceops.agentkit`` the values live in the worker's main process;
without it (or with ``shared=False``) in the process itself.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
import pickle
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

from voiceops.agentkit.cache import ipc
from voiceops.agentkit.cache.policy import (
    Answer,
    CacheHit,
    CacheOptions,
    Counters,
    FetchFailed,
    FetchLease,
    FunctionCache,
)

log = logging.getLogger("voiceops.agentkit")

P = ParamSpec("P")
T = TypeVar("T")

_PLAIN = (str, int, float, bool, bytes, type(None))


class CacheError(Exception):
    """There is no value: the source takes too long, or failed for somebody else a moment ago, and there
    is no old value to serve."""


class _HubGoneError(Exception):
    """The worker's main process does not answer."""


class Store(Protocol):
    """Where the values are."""

    async def claim(self, key: str) -> Answer: ...

    async def put(self, ticket: int, value: object) -> None: ...

    async def fail(self, ticket: int, message: str) -> CacheHit | None: ...

    async def stale(self, key: str) -> CacheHit | None: ...

    async def invalidate(self, key: str | None) -> None: ...


class _LocalStore:
    """The values in this process."""

    def __init__(self, options: CacheOptions) -> None:
        self._cache = FunctionCache(options)

    async def claim(self, key: str) -> Answer:
        return await self._cache.claim(key)

    async def put(self, ticket: int, value: object) -> None:
        self._cache.put(ticket, value)

    async def fail(self, ticket: int, message: str) -> CacheHit | None:
        return self._cache.fail(ticket, message)

    async def stale(self, key: str) -> CacheHit | None:
        return self._cache.stale(key)

    async def invalidate(self, key: str | None) -> None:
        self._cache.invalidate(key)


class _HubStore:
    """The values in the worker's main process, encoded."""

    def __init__(self, name: str, options: CacheOptions) -> None:
        self._name = name
        self._options = options
        self._leads: dict[int, ipc.Connection] = {}

    async def _ask(
        self, do: str, *, payload: bytes = b"", connection: ipc.Connection | None = None, **fields: object
    ) -> tuple[dict[str, Any], bytes, ipc.Connection]:
        about = {"op": "cache", "do": do, "name": self._name, "options": vars(self._options)}
        try:
            link = connection or await ipc.connect()
        except OSError as error:
            raise _HubGoneError(str(error)) from error
        try:
            await link.send(about | fields, payload)
            reply = await link.receive()
        except BaseException as error:
            link.close()
            if isinstance(error, OSError):
                raise _HubGoneError(str(error)) from error
            raise
        if reply is None:
            link.close()
            raise _HubGoneError("the connection was closed")
        return reply[0], reply[1], link

    async def claim(self, key: str) -> Answer:
        header, payload, link = await self._ask("claim", key=key)
        if header["is"] == "lead":
            # The connection stays open: should this process die, the hub sees it close
            # and lets somebody else fetch.
            self._leads[header["ticket"]] = link
            return FetchLease(header["ticket"])
        link.close()
        return FetchFailed(header["message"]) if header["is"] == "failed" else _hit(header, payload)

    async def put(self, ticket: int, value: object) -> None:
        lead = self._leads.pop(ticket)
        try:
            form, payload = _encoded(value)
        except BaseException:
            lead.close()
            raise
        _, _, link = await self._ask("put", payload=payload, connection=lead, ticket=ticket, form=form)
        link.close()

    async def fail(self, ticket: int, message: str) -> CacheHit | None:
        header, payload, link = await self._ask(
            "fail", connection=self._leads.pop(ticket), ticket=ticket, message=message
        )
        link.close()
        return _hit(header, payload) if header["is"] == "hit" else None

    async def stale(self, key: str) -> CacheHit | None:
        header, payload, link = await self._ask("stale", key=key)
        link.close()
        return _hit(header, payload) if header["is"] == "hit" else None

    async def invalidate(self, key: str | None) -> None:
        _, _, link = await self._ask("invalidate", key=key)
        link.close()


def _hit(header: dict[str, Any], payload: bytes) -> CacheHit:
    return CacheHit(_decoded(header["form"], payload), stale=bool(header.get("stale")))


def _encoded(value: object) -> tuple[str, bytes]:
    """The simplest form that gives the value back as it is, and its bytes; pickle only where nothing else does."""
    if type(value) is bytes:
        return "bytes", value
    try:
        if _is_json(value):
            return "json", json.dumps(value).encode()
    except RecursionError:
        pass  # it contains itself, or is too deep for JSON
    return "pickle", pickle.dumps(value)


def _decoded(form: str, payload: bytes) -> object:
    """The value; pickles come from a process of our own user only, see ``hub.connect``."""
    if form == "bytes":
        return payload
    return json.loads(payload) if form == "json" else pickle.loads(payload)


def _is_json(value: object) -> bool:
    """Whether JSON gives back the same value: a tuple would become a list, a key of 1 the key "1"."""
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if type(value) is list:
        return all(map(_is_json, value))
    return type(value) in (str, int, float, bool, type(None))


class Cached(Generic[P, T]):
    """A cached async function; call it like the function itself."""

    def __init__(
        self,
        function: Callable[P, Awaitable[T]],
        *,
        options: CacheOptions,
        shared: bool,
        key: Callable[..., str] | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self.options = options
        """The times that it keeps."""
        self._shared = shared
        self._key = key
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._local: _LocalStore | None = None
        self._hub: _HubStore | None = None
        self._fetches: set[asyncio.Task[object]] = set()
        self.counters = Counters()
        """What this process got: hits, misses, old values, errors of its fetches, failures of others."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        key = self._key_of(args, kwargs)
        try:
            return await self._through(self._store(), key, args, kwargs)
        except _HubGoneError as error:
            log.warning(
                "the shared cache can't be reached, this call has its own", extra={"error": str(error)}
            )
            self._shared = False
            return await self._through(self._store(), key, args, kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """After a write: forget the value for these arguments, or all values without arguments.

        Once it returns, no call of this worker sees what was fetched before.
        """
        await self._store().invalidate(self._key_of(args, kwargs) if args or kwargs else None)

    async def _through(self, store: Store, key: str, args: object, kwargs: object) -> T:
        answer = await store.claim(key)
        self._count(answer)
        if isinstance(answer, CacheHit):
            return cast(T, answer.value)
        if isinstance(answer, FetchFailed):
            raise CacheError(answer.message)
        # A task of its own: the fetch serves others too, so it outlives a caller who hangs up.
        fetch = asyncio.create_task(self._fetch(store, answer.ticket, args, kwargs))
        self._fetches.add(fetch)
        fetch.add_done_callback(self._fetched)
        timeout_s = self.options.timeout_s
        patience_s = min(self.options.patience_s, timeout_s)
        done, _ = await asyncio.wait({fetch}, timeout=patience_s)
        if not done and (old := await store.stale(key)) is not None:
            self._count(old)
            return cast(T, old.value)
        if not done:
            done, _ = await asyncio.wait({fetch}, timeout=timeout_s - patience_s)
        if not done:
            raise CacheError(f"the source did not answer within {timeout_s:g} s")
        return cast(T, await asyncio.shield(fetch))

    async def _ask_source(self, args: object, kwargs: object) -> T:
        """Call the function; for longer than anybody waits, but not without end."""
        limit_s = self.options.timeout_s + self.options.retry_after_s
        work = asyncio.ensure_future(self._call(args, kwargs))
        try:
            done, _ = await asyncio.wait({work}, timeout=limit_s)
        finally:
            work.cancel()  # no effect on one that is done
        if not done:
            raise CacheError(f"the source did not answer within {limit_s:g} s")
        return work.result()

    async def _call(self, args: Any, kwargs: Any) -> T:
        try:
            return await self._function(*args, **kwargs)
        except SystemExit as error:
            # asyncio lets it out of a task and through the loop: the job would die in the middle.
            raise CacheError(f"sys.exit({error.code!r}) in {self._name}") from error

    async def _fetch(self, store: Store, ticket: int, args: object, kwargs: object) -> object:
        try:
            value = await self._ask_source(args, kwargs)
        except BaseException as error:
            self.counters.errors += 1
            try:
                old = await store.fail(ticket, f"{type(error).__name__}: {error}")
            except _HubGoneError:
                old = None
            if old is None or not isinstance(error, Exception):
                raise
            self._count(old)
            log.warning(
                "data source failed, serving the old value",
                extra={"function": self._name, "error": repr(error)},
            )
            return old.value
        try:
            await store.put(ticket, value)
        except Exception:
            # The caller has the value; only the next one has to fetch again.
            log.exception("a result could not be kept", extra={"function": self._name})
        return value

    def _fetched(self, fetch: asyncio.Task[object]) -> None:
        self._fetches.discard(fetch)
        if not fetch.cancelled():
            fetch.exception()  # whoever waited has it; nobody may be waiting any more

    def _store(self) -> Store:
        if self._shared and ipc.address() is not None:
            if self._hub is None:
                self._hub = _HubStore(self._name, self.options)
            return self._hub
        if self._local is None:
            self._local = _LocalStore(self.options)
        return self._local

    def _key_of(self, args: tuple[object, ...], kwargs: dict[str, object]) -> str:
        if self._key is not None:
            return self._key(*args, **kwargs)
        text = repr(
            (tuple(map(_stable, args)), sorted((name, _stable(value)) for name, value in kwargs.items()))
        )
        return text if len(text) <= 200 else hashlib.sha256(text.encode()).hexdigest()

    def _count(self, answer: Answer) -> None:
        if isinstance(answer, FetchLease):
            self.counters.misses += 1
        elif isinstance(answer, CacheHit) and answer.stale:
            self.counters.stale += 1
        elif isinstance(answer, CacheHit):
            self.counters.hits += 1
        else:
            self.counters.failed += 1


def _stable(value: object) -> object:
    """``value`` when its repr is the same in every process and for every equal value."""
    if isinstance(value, (tuple, list)):
        return [_stable(item) for item in value]
    if type(value) in _PLAIN:
        return value
    raise TypeError(
        f"cached() can't make a key of {type(value).__name__}: pass key=, a function of the arguments"
    )


def cached(
    *,
    ttl_s: float = 30.0,
    timeout_s: float = 3.0,
    retry_after_s: float = 5.0,
    patience_s: float = 1.0,
    max_stale_s: float = 3600.0,
    max_entries: int = 1024,
    shared: bool = True,
    key: Callable[..., str] | None = None,
) -> Callable[[Callable[P, Awaitable[T]]], Cached[P, T]]:
    """Keep an async function's results for ``ttl_s`` seconds.

    However many ask at once, one asks the source (single flight). When the source fails,
    or takes longer than ``patience_s`` while an old value is at hand, the old value (up to
    ``max_stale_s``) is served; without one the error is raised, or ``CacheError`` after
    ``timeout_s``. Then the source is left alone for ``retry_after_s``: callers get the old
    value or ``CacheError`` at once, so that only the first one waits for a source that
    hangs. After it one caller tries again, and the first success is everybody's.

    ``await function.invalidate()`` after a write also ends such a pause;
    ``function.counters`` counts. Results that are shared must be picklable; arguments that
    are neither numbers, strings nor sequences of them need ``key``.
    """
    if ttl_s <= 0 or timeout_s <= 0:
        raise ValueError("ttl_s and timeout_s must be positive")
    if retry_after_s < 0 or patience_s < 0 or max_stale_s < 0 or max_entries < 1:
        raise ValueError("times must not be negative, and max_entries must be at least 1")
    options = CacheOptions(
        ttl_s=ttl_s,
        timeout_s=timeout_s,
        retry_after_s=retry_after_s,
        patience_s=patience_s,
        max_stale_s=max_stale_s,
        max_entries=max_entries,
    )
    return lambda function: Cached(function, options=options, shared=shared, key=key)
