"""The same work on many hosts at once, one outcome each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Generic, TypeVar

from voiceops.errors import VoiceopsError
from voiceops.ports import Transport

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """What came of the work on one host: a value, or an error."""

    host: str
    value: T | None = None
    error: VoiceopsError | None = None

    def get(self) -> T:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


def on_hosts(
    transports: Sequence[Transport],
    work: Callable[[Transport], T],
    *,
    parallel: int = 32,
    on_done: Callable[[Outcome[T]], None] | None = None,
) -> dict[str, Outcome[T]]:
    """Run ``work`` for every host; one that is down does not stop the others. Closes the transports.

    Ctrl-C closes all connections, which ends each host's run before its next step, and passes on.
    An error that is no ``VoiceopsError`` is a bug and is raised once all hosts are through.
    """
    outcomes: dict[str, Outcome[T]] = {}
    bug: BaseException | None = None
    pool = ThreadPoolExecutor(max_workers=max(1, min(parallel, len(transports))))
    futures = {pool.submit(_one, transport, work): transport for transport in transports}
    try:
        for future in as_completed(futures):
            outcome, failed = _outcome(futures[future].name, future)
            bug = bug or failed
            outcomes[outcome.host] = outcome
            if on_done:
                on_done(outcome)
    finally:
        for future in futures:
            future.cancel()
        for transport in transports:
            transport.close()
        pool.shutdown(wait=True)
    if bug is not None:
        raise bug
    return {transport.name: outcomes[transport.name] for transport in transports}


def _one(transport: Transport, work: Callable[[Transport], T]) -> T:
    try:
        return work(transport)
    finally:
        transport.close()


def _outcome(host: str, future: Future[T]) -> tuple[Outcome[T], BaseException | None]:
    try:
        return Outcome(host=host, value=future.result()), None
    except VoiceopsError as error:
        return Outcome(host=host, error=error), None
    except Exception as error:  # noqa: BLE001 - raised by the caller once all hosts are through
        return Outcome(host=host, error=VoiceopsError(f"{host}: {error}")), error
