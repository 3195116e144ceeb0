"""Run the same work on many hosts, batch after batch; each host has its own result.

The one runner of all commands: a batch is worked on side by side, a host alone in the calling thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from voiceops.errors import ServiceError, UnreachableError, VoiceopsError
from voiceops.ports import Transport

PARALLEL = 32
"""Hosts that are worked on at once, where nothing else is said."""


class Named(Protocol):
    """A host, or what stands for one: its connection, its part in a run."""

    @property
    def name(self) -> str:
        """Its name in the inventory."""


H = TypeVar("H", bound=Named)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResult(Generic[T]):
    """Result of the work on one host: a value, an error, or the reason why its turn never came."""

    host: str
    value: T | None = None
    error: VoiceopsError | None = None
    skipped: str = ""

    @property
    def ok(self) -> bool:
        return self.error is None and not self.skipped

    @property
    def problem(self) -> VoiceopsError | None:
        """The error; for a host that was skipped, one that says why."""
        return ServiceError(f"{self.host}: {self.skipped}") if self.skipped else self.error

    def get(self) -> T:
        """Return the value; raise the error."""
        if problem := self.problem:
            raise problem
        return self.value  # type: ignore[return-value]


Batches = Sequence[Sequence[HostResult[Any]]]
SkipRest = Callable[[Batches], str]
"""Called before each batch with the results of those before it; a reason keeps it from being begun."""


def go_on(_done: Batches) -> str:
    """Begin every batch, whatever came of those before it."""
    return ""


def run_on(
    batches: Iterable[Sequence[H]],
    work: Callable[[H], T],
    *,
    parallel: int = PARALLEL,
    skip_rest: SkipRest = go_on,
    on_done: Callable[[HostResult[T]], None] = lambda result: None,
    interrupt: Callable[[], None] | None = None,
) -> dict[str, HostResult[T]]:
    """Run ``work`` for each host, batch after batch; an error stays with its host.

    ``interrupt`` is called on Ctrl-C and ends the work of the threads, which are waited for then; without
    it they are left behind. An error that is no ``VoiceopsError`` is a bug and is raised once its batch is
    through.
    """
    done: list[list[HostResult[T]]] = []
    for batch in batches:
        if reason := skip_rest(done):
            done.append([HostResult(host=host.name, skipped=reason) for host in batch])
            for result in done[-1]:
                on_done(result)
        elif len(batch) == 1 and interrupt is None:
            (host,) = batch
            try:
                only: HostResult[T] = HostResult(host=host.name, value=work(host))
            except VoiceopsError as error:
                only = HostResult(host=host.name, error=error)
            on_done(only)
            done.append([only])
        else:
            done.append(_side_by_side(batch, work, parallel, on_done, interrupt))
    return {result.host: result for results in done for result in results}


def _side_by_side(
    batch: Sequence[H],
    work: Callable[[H], T],
    parallel: int,
    on_done: Callable[[HostResult[T]], None],
    interrupt: Callable[[], None] | None,
) -> list[HostResult[T]]:
    """Work on all hosts of a batch in threads, at most ``parallel`` at once; results in the batch's order."""
    ended: queue.SimpleQueue[HostResult[T] | BaseException] = queue.SimpleQueue()
    waiting = list(reversed(batch))

    def serve() -> None:
        while waiting:
            try:
                host = waiting.pop()
            except IndexError:  # another thread has taken the last one
                return
            try:
                ended.put(HostResult(host=host.name, value=work(host)))
            except VoiceopsError as error:
                ended.put(HostResult(host=host.name, error=error))
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                ended.put(error)

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(max(1, min(parallel, len(batch))))]
    found: dict[str, HostResult[T]] = {}
    bugs: list[BaseException] = []
    try:
        for thread in threads:
            thread.start()
        for _ in batch:
            result = ended.get()
            if isinstance(result, BaseException):
                bugs.append(result)
                continue
            found[result.host] = result
            on_done(result)
    except BaseException:
        waiting.clear()
        if interrupt is not None:
            interrupt()
            for thread in threads:
                thread.join()
        raise
    if bugs:
        raise bugs[0]
    return [found[host.name] for host in batch]


def skip_after_failure(why: str) -> SkipRest:
    """Begin no batch after a host that was reached and failed; ``why`` names it as ``{host}``."""

    def skip(done: Batches) -> str:
        failed = (one.host for batch in done for one in batch if _stands_in_the_way(one))
        return next((why.format(host=host) for host in failed), "")

    return skip


def _stands_in_the_way(result: HostResult[object]) -> bool:
    return result.error is not None and not isinstance(result.error, UnreachableError)


def skip_after_failures(max_fail: int) -> SkipRest:
    """Begin no batch after the first one has failed, or after more than ``max_fail`` hosts have."""

    def skip(done: Batches) -> str:
        failed = [sum(one.error is not None for one in batch) for batch in done]
        return "a host before it failed" if failed and (failed[0] or sum(failed) > max_fail) else ""

    return skip


def exit_code(results: Iterable[HostResult[Any]], otherwise: int = 0) -> int:
    """The highest exit code of all errors; 1 where a host was skipped; else ``otherwise``, what the values say."""
    problems = [problem.exit_code for problem in (one.problem for one in results) if problem is not None]
    return max(problems, default=otherwise)


def on_hosts(
    transports: Sequence[Transport],
    work: Callable[[Transport], T],
    *,
    parallel: int = PARALLEL,
    on_done: Callable[[HostResult[T]], None] = lambda result: None,
) -> dict[str, HostResult[T]]:
    """Run ``work`` for every connection at once and close them; one host that is down does not stop the others.

    Ctrl-C closes all connections, which ends each host's run before its next step, and passes on.
    """

    def close() -> None:
        for transport in transports:
            transport.close()

    def closing(transport: Transport) -> T:
        try:
            return work(transport)
        finally:
            transport.close()

    try:
        return run_on([transports], closing, parallel=parallel, on_done=on_done, interrupt=close)
    finally:
        close()
