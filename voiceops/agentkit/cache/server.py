"""The cache of all calls of a worker, in its main process. Values stay encoded here: a form and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from voiceops.agentkit.cache.ipc import Connection
from voiceops.agentkit.cache.policy import Answer, CacheHit, CacheOptions, Counters, FetchLease, FunctionCache


class CacheHub:
    """Answers the cache messages of job processes."""

    def __init__(self) -> None:
        self._caches: dict[str, FunctionCache] = {}

    def counters(self) -> Iterator[tuple[str, Counters]]:
        """Function names with their counters."""
        for name, cache in self._caches.items():
            yield name, cache.counters

    async def handle(self, connection: Connection, header: dict[str, Any], payload: bytes) -> None:
        """Answer one message; a claim that leads keeps the connection until the fetch is over."""
        cache = self._cache(header)
        do = header["do"]
        if do == "claim":
            answer = await cache.claim(header["key"])
            if isinstance(answer, FetchLease):
                await self._lead(connection, cache, answer)
            else:
                await _reply(connection, answer)
        elif do == "stale":
            await _reply(connection, cache.stale(header["key"]))
        elif do == "invalidate":
            cache.invalidate(header.get("key"))
            await connection.send({"is": "ok"})

    def _cache(self, header: dict[str, Any]) -> FunctionCache:
        name = header["name"]
        options = CacheOptions(**header["options"])
        cache = self._caches.get(name)
        if cache is None or cache.options != options:
            cache = self._caches[name] = FunctionCache(options)
        return cache

    async def _lead(self, connection: Connection, cache: FunctionCache, lead: FetchLease) -> None:
        try:
            await connection.send({"is": "lead", "ticket": lead.ticket})
            message = await connection.receive()
            if message is None:
                return
            header, payload = message
            if header["do"] == "put":
                cache.put(lead.ticket, (header["form"], payload))
                await connection.send({"is": "ok"})
            else:
                await _reply(connection, cache.fail(lead.ticket, str(header.get("message", ""))))
        finally:
            cache.abandon(lead.ticket)  # no effect once it has landed


async def _reply(connection: Connection, answer: Answer | None) -> None:
    if isinstance(answer, CacheHit):
        form, payload = answer.value
        await connection.send({"is": "hit", "stale": answer.stale, "form": form}, payload)
    elif answer is None:
        await connection.send({"is": "none"})
    else:
        await connection.send({"is": "failed", "message": getattr(answer, "message", "")})
