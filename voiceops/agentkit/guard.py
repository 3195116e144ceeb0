"""``guarded_entrypoint``: a job that always ends, says why, and never takes the worker with it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from voiceops.agentkit import lifecycle
from voiceops.agentkit.call import Call
from voiceops.agentkit.lifecycle import Lifecycle
from voiceops.agentkit.loopwatch import LoopBlock, LoopWatch
from voiceops.model.protocol import NOBODY_TIMEOUT_S

if TYPE_CHECKING:
    from livekit.agents import JobContext

log = logging.getLogger("voiceops.agentkit.calls")

Entrypoint = Callable[["JobContext"], Awaitable[None]]
Body = Callable[..., Awaitable[None]]
T = TypeVar("T")


@dataclass(frozen=True)
class GuardOptions:
    """Deadlines of a call; None: no deadline."""

    load: Callable[..., Awaitable[object]] | None = None
    fallback: object = None
    load_timeout_s: float = 3.0
    connect_timeout_s: float = 5.0
    session_timeout_s: float | None = 60.0
    call_timeout_s: float | None = None
    cleanup_timeout_s: float = 10.0
    hangup_grace_s: float = 5.0
    nobody_timeout_s: float | None = NOBODY_TIMEOUT_S
    delete_room: bool = True
    block_threshold_s: float = 0.5


class EntrypointExitedError(Exception):
    """The entrypoint called ``sys.exit``."""


@overload
def guarded_entrypoint(body: Body, /) -> Entrypoint: ...


@overload
def guarded_entrypoint(
    *,
    load: Callable[..., Awaitable[object]] | None = None,
    fallback: object = None,
    load_timeout_s: float = 3.0,
    connect_timeout_s: float = 5.0,
    session_timeout_s: float | None = 60.0,
    call_timeout_s: float | None = None,
    cleanup_timeout_s: float = 10.0,
    hangup_grace_s: float = 5.0,
    nobody_timeout_s: float | None = NOBODY_TIMEOUT_S,
    delete_room: bool = True,
    block_threshold_s: float = 0.5,
) -> Callable[[Body], Entrypoint]: ...


def guarded_entrypoint(body: Body | None = None, /, **options: Any) -> Any:
    """Guard a job's entrypoint ``async def entrypoint(ctx)`` or ``(ctx, call)``.

    - connects to the room within ``connect_timeout_s``, else the job ends cleanly;
    - meanwhile runs ``load()`` or ``load(ctx)``; after ``load_timeout_s`` or an error
      ``call.data`` is ``fallback`` (a value, or a function that makes it);
    - the session has to listen within ``session_timeout_s`` (``call.start``,
      ``call.ready()``, or the entrypoint's return);
    - the call ends after ``call_timeout_s``, when the last person has been gone for
      ``hangup_grace_s``, when nobody has come for ``nobody_timeout_s``, or at a
      ``room_cleanup`` message; then ``cleanup_timeout_s``;
    - an exception, ``sys.exit`` or an ignored cancellation is logged with its phase, and
      ends this job only. A cancellation is passed on to whoever it belongs to.

    Values for one call; the defaults are in ``GuardOptions``.
    """
    settings = GuardOptions(**options)

    def decorate(function: Body) -> Entrypoint:
        takes_call = _required_arguments(function) > 1

        @functools.wraps(function)
        async def guarded(ctx: JobContext) -> None:
            await _Guard(settings, function, takes_call, ctx).run()

        return guarded

    return decorate(body) if body is not None else decorate


class _Guard:
    """One job."""

    def __init__(self, options: GuardOptions, body: Body, takes_call: bool, ctx: JobContext) -> None:
        self.options = options
        self.body = body
        self.takes_call = takes_call
        self.ctx = ctx
        self.loop = asyncio.get_running_loop()
        offered_at = ctx._info.received_at
        steps = Lifecycle(
            ctx.job.id,
            pii={"room": ctx.job.room.name},
            offered_s_ago=time.time() - offered_at if offered_at else 0.0,
        )
        self.call: Call[object] = Call(
            ctx,
            steps=steps,
            hangup_grace_s=options.hangup_grace_s,
            nobody_timeout_s=options.nobody_timeout_s,
            delete_room=options.delete_room,
        )
        self.watch = LoopWatch(
            threshold_s=options.block_threshold_s, describe=self.call.describe, on_block=self._blocked
        )

    async def run(self) -> None:
        call = self.call
        call.steps.emit(lifecycle.INCOMING)
        self.watch.start()
        self.ctx.add_shutdown_callback(self._shut_down)
        loading = asyncio.create_task(self._load(), name="voiceops_load")
        try:
            if not await self._connect():
                return
            call.data = await loading
            call.phase = "session"
            await self._supervise()
        except asyncio.CancelledError:
            call.reason = call.reason or "cancelled"
            raise
        finally:
            loading.cancel()

    async def _connect(self) -> bool:
        call = self.call
        connecting = asyncio.create_task(self.ctx.connect(), name="voiceops_connect")
        done = await _finishes(connecting, timeout_s=self.options.connect_timeout_s)
        if done and _error_of(connecting) is None:
            call.watch_room()
            call.steps.emit(lifecycle.CONNECTED)
            call.phase = "load"
            return True
        connecting.cancel()
        call.fail(_error_of(connecting) or f"not in the room after {self.options.connect_timeout_s:g} s")
        call.reason = "could not connect"
        call.ended.set()
        self.ctx.shutdown(call.reason)
        return False

    async def _load(self) -> object:
        """What ``load`` returns, or the fallback. Only a cancellation from outside gets out."""
        load = self.options.load
        if load is None:
            return None
        arguments = (self.ctx,) if _required_arguments(load) else ()
        began = time.monotonic()
        work = asyncio.create_task(_contained(load, *arguments), name="voiceops_load_data")
        done = await _finishes(work, timeout_s=self.options.load_timeout_s)
        seconds = round(time.monotonic() - began, 4)
        if done and _error_of(work) is None:
            self.call.steps.emit(lifecycle.DATA_LOADED, load_s=seconds, fallback=False)
            return work.result()
        work.cancel()
        error = _error_of(work) or f"no data after {self.options.load_timeout_s:g} s"
        self.call.data_is_fallback = True
        self.call.steps.emit(
            lifecycle.FAILED,
            level=logging.WARNING,
            phase="load",
            error=repr(error),
            load_s=seconds,
            fallback=True,
        )
        fallback = self.options.fallback
        return fallback() if callable(fallback) else fallback

    async def _supervise(self) -> None:
        """Run the entrypoint; end it when the call ends first."""
        call = self.call
        arguments = (self.ctx, call) if self.takes_call else (self.ctx,)
        work = asyncio.create_task(_contained(self.body, *arguments), name="voiceops_entrypoint")
        deadline = asyncio.create_task(self._deadlines(), name="voiceops_deadlines")
        over = asyncio.create_task(call.ended.wait(), name="voiceops_ended")
        try:
            await asyncio.wait({work, over}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await self._returned(work)
            else:
                await self._cancel(work)
        except asyncio.CancelledError:
            await self._cancel(work)
            raise
        finally:
            over.cancel()
            if call.ended.is_set():
                deadline.cancel()
            else:
                call.background(deadline, "voiceops_deadlines")

    async def _returned(self, work: asyncio.Task[None]) -> None:
        call = self.call
        if work.cancelled():
            # Not by us: something inside was cancelled and took the entrypoint along.
            if not call.ended.is_set():
                call.fail("cancelled from inside")
                await call.end("entrypoint cancelled")
            return
        error = work.exception()
        if error is None:
            # livekit-agents lets a job live on after its entrypoint returned.
            if not call.ended.is_set():
                call.ready()
            return
        if call.ended.is_set():
            log.info("entrypoint ended by the hangup", extra=call.describe() | {"error": repr(error)})
            return
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        call.fail(error, traceback=trace)
        await call.end(f"entrypoint failed in phase {call.phase}")

    async def _cancel(self, work: asyncio.Task[None]) -> None:
        """End an entrypoint that outlives its call; name it when it refuses."""
        if work.done():
            return
        work.cancel()
        done = await _finishes(work, timeout_s=self.options.cleanup_timeout_s)
        if done:
            if not work.cancelled() and (error := _error_of(work)) is not None:
                log.info(
                    "entrypoint ended by the hangup", extra=self.call.describe() | {"error": repr(error)}
                )
            return
        self.call.fail("the entrypoint ignores its cancellation", where=_where(work))

    async def _deadlines(self) -> None:
        call = self.call
        options = self.options
        if options.session_timeout_s is not None:
            listening = asyncio.create_task(call.listening.wait())
            done = await _finishes(listening, timeout_s=options.session_timeout_s)
            if not done:
                listening.cancel()
                call.fail(
                    f"the session does not listen after {options.session_timeout_s:g} s", timed_out=True
                )
                await call.end("session did not start")
                return
        if options.call_timeout_s is not None:
            await asyncio.sleep(max(0.0, options.call_timeout_s - call.steps.total_s))
            await call.end(f"the call reached its limit of {options.call_timeout_s:g} s")

    async def _shut_down(self, reason: str) -> None:
        """livekit-agents' last step of a job: the session is closed, the room is left."""
        call = self.call
        cleaning = asyncio.create_task(call.clean_up(), name="voiceops_cleanup")
        done = await _finishes(cleaning, timeout_s=self.options.cleanup_timeout_s)
        if not done:
            call.fail(
                f"cleanup took longer than {self.options.cleanup_timeout_s:g} s", where=_where(cleaning)
            )
            cleaning.cancel()
        self.watch.stop()
        call.steps.emit(lifecycle.ENDED, reason=call.reason or reason, failed=call.failed)
        _exit_at_the_latest_in(self.options.cleanup_timeout_s)

    def _blocked(self, block: LoopBlock) -> None:
        # From the watching thread, which has logged it: the event follows when the loop is free.
        tell = functools.partial(
            self.call.steps.emit,
            lifecycle.BLOCKED,
            level=logging.DEBUG,
            phase=self.call.phase,
            where=block.where,
        )
        with contextlib.suppress(RuntimeError):  # the loop closed meanwhile: the job is over
            self.loop.call_soon_threadsafe(tell)


async def _finishes(task: asyncio.Task[object], *, timeout_s: float) -> bool:
    # Not wait_for: before Python 3.12 that can lose a cancellation from outside, and it
    # waits without end for a task that ignores its own.
    done, _ = await asyncio.wait({task}, timeout=timeout_s)
    return bool(done)


def _error_of(task: asyncio.Task[object]) -> BaseException | None:
    """What a task that is done ended with; None for a result, and for one that still runs."""
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _required_arguments(function: Callable[..., object]) -> int:
    parameters = inspect.signature(function).parameters.values()
    return sum(
        parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in parameters
    )


async def _contained(function: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """asyncio lets SystemExit out of a task and through the loop: the job would die in the middle."""
    try:
        return await function(*arguments)
    except SystemExit as error:
        raise EntrypointExitedError(f"sys.exit({error.code!r})") from error


def _where(task: asyncio.Task[object]) -> str:
    """The line at which a task waits."""
    frames = task.get_stack(limit=1)
    if not frames:
        return "unknown"
    waiting: object = task.get_coro()
    place = frames[-1]
    while (inner := getattr(waiting, "cr_await", None)) is not None:
        waiting = inner
        if (frame := getattr(waiting, "cr_frame", None)) is not None:
            place = frame
    return f"{place.f_code.co_filename}:{place.f_lineno} in {place.f_code.co_name}"


def _exit_at_the_latest_in(seconds: float) -> None:
    """A task that ignores its cancellation keeps the job's loop from closing, for 60 s and a kill."""
    if multiprocessing.current_process().name != "job_proc":
        return

    def leave() -> None:
        log.error("the job's process did not end and is left behind", extra={"timeout_s": seconds})
        time.sleep(0.2)  # the log line travels through a thread to the main process
        os._exit(1)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
