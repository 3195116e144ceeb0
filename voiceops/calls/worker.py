"""A caller process: ``python -m voiceops.calls.worker [--vanish]``, driven through its stdin.

One process carries many calls, because LiveKit's engine brings threads of its own and the
weight of a call is in there, not in Python. With ``--vanish`` each call gets a fork that
kills itself where it should hang up: only the death of a process ends a connection without
a word. The forks are made before the engine is loaded, which can't survive a fork.

In: ``{"place": job}``, ``{"hang_up": id}``; end of file means hang up everything.
Out: ``{"failing": result}`` (waits for hang_up), ``{"done": result}``, ``{"cpu_s": x, "lags": [...]}``,
``{"died": id, "exit_code": x}`` of a fork that ended before its call was done.
"""

from __future__ import annotations

import asyncio
import os
import resource
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Union

import msgspec

from voiceops.calls.call import converse
from voiceops.calls.ports import Phone
from voiceops.model.calls import CallJob, CallResult

_LINE_LIMIT = 1 << 20

Send = Callable[["CallerReply"], None]


class CallerRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the pool asks of a caller process."""

    place: Union[CallJob, None] = None
    hang_up: Union[int, None] = None


class CallerReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller process tells the pool."""

    failing: Union[CallResult, None] = None
    done: Union[CallResult, None] = None
    died: Union[int, None] = None
    exit_code: int = 0
    cpu_s: float = 0.0
    lags: tuple[float, ...] = ()


def main() -> None:
    """Take over stdin and stdout, and serve until stdin ends."""
    # Each call holds about 36 descriptors: the usual 1,024 end at 28 calls.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Native code prints to stdout now and then: the pool's pipe must stay clean.
    out = os.dup(1)
    os.dup2(2, 1)
    encode = msgspec.json.Encoder().encode

    def send(reply: CallerReply) -> None:
        try:
            os.write(out, encode(reply) + b"\n")
        except BrokenPipeError:
            os._exit(1)  # the pool is gone: nobody wants these calls any more

    if "--vanish" in sys.argv[1:]:
        _serve_forks(send)
    else:
        asyncio.run(_serve(send))
    # Not by sys.exit: the engine's threads abort a process whose interpreter ends before them.
    os._exit(0)


async def _serve(send: Send) -> None:
    """Many calls in one event loop."""
    import voiceops.adapters.livekit.rtc  # noqa: F401 - loaded before the first call is timed

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    decode = msgspec.json.Decoder(CallerRequest).decode
    calls: dict[int, tuple[asyncio.Task[None], asyncio.Event]] = {}
    lag = LagMeter()
    lag.start()
    while line := await reader.readline():
        order = decode(line)
        if order.place is not None:
            released = asyncio.Event()
            task = loop.create_task(_call(order.place, released, send, lag))
            calls[order.place.id] = (task, released)
            task.add_done_callback(partial(_forget, calls, order.place.id))
        elif order.hang_up in calls:
            task, released = calls[order.hang_up]
            if not released.is_set():
                released.set()
            else:
                task.cancel()
    await lag.stop()
    tasks = [task for task, _ in calls.values()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _forget(
    calls: dict[int, tuple[asyncio.Task[None], asyncio.Event]], number: int, _task: asyncio.Task[None]
) -> None:
    calls.pop(number, None)


async def _call(job: CallJob, released: asyncio.Event, send: Send, lag: LagMeter) -> None:
    result = await _converse(job, released, send)
    lags = tuple(lag.lags)
    lag.lags.clear()
    send(CallerReply(done=result, cpu_s=time.process_time(), lags=lags))


async def _converse(job: CallJob, released: asyncio.Event, send: Send) -> CallResult:
    """One call that ends early, with a clean hang-up, when ``released`` is set."""
    failing = False

    async def inquire(result: CallResult) -> None:
        nonlocal failing
        failing = True
        send(CallerReply(failing=result))
        await released.wait()

    call = asyncio.ensure_future(converse(_phone_for(job), job, inquire=inquire))
    release = asyncio.ensure_future(released.wait())
    try:
        await asyncio.wait({call, release}, return_when=asyncio.FIRST_COMPLETED)
        if not call.done() and not failing:
            call.cancel()
        return await call
    finally:
        release.cancel()
        if not call.done():
            call.cancel()
            await asyncio.wait({call})


def _phone_for(job: CallJob) -> Phone:
    from voiceops.adapters.livekit.rtc import RtcPhone

    return RtcPhone(listen_on=bool(job.script), measure=job.hold_s > 0)


class _Fork(NamedTuple):
    pid: int
    leash: int
    """The fork hangs up when this end is closed."""
    life: int
    """Reads as ended once the fork is dead, however it died."""


def _serve_forks(send: Send) -> None:
    """One fork per call. A fork ends when its leash is let go, by its own hand, or by a crash."""
    # Once, before the forks; the engine itself is loaded by the first Room.
    import voiceops.adapters.livekit.rtc  # noqa: F401

    decode = msgspec.json.Decoder(CallerRequest).decode
    forks: dict[int, _Fork] = {}
    unread = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    _reap(key.data, forks, selector, send)
                    continue
                if not (received := os.read(0, _LINE_LIMIT)):
                    for fork in forks.values():
                        _end(fork)
                    return
                *lines, unread = (unread + received).split(b"\n")
                for order in map(decode, lines):
                    if order.place is not None:
                        forks[order.place.id] = fork = _forked(order.place, forks, send)
                        selector.register(fork.life, selectors.EVENT_READ, order.place.id)
                    elif order.hang_up is not None:
                        _reap(order.hang_up, forks, selector, send)


def _forked(job: CallJob, others: Mapping[int, _Fork], send: Send) -> _Fork:
    leash_end, leash = os.pipe()
    life, life_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        for other in others.values():
            os.close(other.leash)
        os.close(leash)
        _fork(job, leash_end, send)
    os.close(leash_end)
    os.close(life_end)
    return _Fork(pid, leash, life)


def _reap(number: int, forks: dict[int, _Fork], selector: selectors.BaseSelector, send: Send) -> None:
    """See a fork to its end; does nothing for one that was seen to it before."""
    if (fork := forks.pop(number, None)) is None:
        return
    selector.unregister(fork.life)
    exit_code = _end(fork)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = time.process_time() + used.ru_utime + used.ru_stime
    send(CallerReply(died=number, exit_code=exit_code, cpu_s=cpu_s))


def _end(fork: _Fork) -> int:
    os.close(fork.leash)
    _, status = os.waitpid(fork.pid, 0)
    os.close(fork.life)
    return os.waitstatus_to_exitcode(status)


def _fork(job: CallJob, pipe: int, send: Send) -> None:
    """Never returns."""
    code = 1
    try:
        code = asyncio.run(_vanishing(job, pipe, send))
    finally:
        os._exit(code)


async def _vanishing(job: CallJob, pipe: int, send: Send) -> int:
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def closed() -> None:
        loop.remove_reader(pipe)
        released.set()

    loop.add_reader(pipe, closed)
    lag = LagMeter()
    lag.start()
    try:
        result = await _converse(job, released, send)
    except asyncio.CancelledError:
        return 0
    send(CallerReply(done=result, lags=tuple(lag.lags)))
    if result.ok:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


_EVERY_S = 0.05
_KEEP = 2000


class LagMeter:
    """Sleeps a little, again and again, and notes by how much each sleep was too long."""

    def __init__(self) -> None:
        self.lags: deque[float] = deque(maxlen=_KEEP)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the loop that runs now; a second start does nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_EVERY_S)
            self.lags.append(max(0.0, time.monotonic() - before - _EVERY_S))


if __name__ == "__main__":
    main()
