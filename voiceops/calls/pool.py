"""Callers in processes of their own: many calls share a few, vanishing ones get forks.

Never in this process: LiveKit's engine calls back into Python from threads of its own, and
a callback that meets an ending interpreter aborts the whole process.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from voiceops.calls.call import GREETING_S, HANG_UP_S, INQUIRY_S
from voiceops.calls.ports import CallerCrashError, Inquiry
from voiceops.calls.worker import CallerReply, CallerRequest
from voiceops.errors import ServiceError
from voiceops.model.calls import CallFailure, CallJob, CallPlan, CallResult, FailureKind, Hangup

CALLS_PER_PROCESS = 10
SPEECH_S = 600.0
"""The longest script, with the agent's answers."""
SPARE_S = 15.0
_LINE_LIMIT = 1 << 20
_END_S = 15.0
_TAIL_BYTES = 1500
_PACKAGE = str(Path(__file__).resolve().parents[2])
"""So that a caller process finds voiceops however this one did."""
_CRASHES = {-signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL, -signal.SIGSEGV, -signal.SIGTRAP}
"""Exit codes of a process that native code brought down; whoever kills one uses other signals."""


def longest_s(job: CallJob) -> float:
    """How long a caller process may take for a call, which has a limit for each of its parts; one that takes longer hangs."""
    spoken_s = SPEECH_S if job.script else 0.0
    return 2 * job.timeout_s + job.hold_s + GREETING_S + spoken_s + INQUIRY_S + HANG_UP_S + SPARE_S


class CallerPool:
    """Places calls through caller processes, which it starts when they are needed."""

    def __init__(self, *, most: int = 0) -> None:
        self._most = most or os.cpu_count() or 1
        self._processes: list[_Process] = []
        """All that were started, the dead ones too: each has to be ended."""

    async def warm_up(self, plan: CallPlan) -> None:
        """Start the first processes that a plan needs, and let them load while others work."""
        for vanishing in sorted({hangup is Hangup.ABRUPT for hangup in plan.hangups}):
            await self._least(vanishing=vanishing).started()

    async def place(self, job: CallJob, inquire: Inquiry | None = None) -> CallResult:
        return await self._least(vanishing=job.hangup is Hangup.ABRUPT).place(job, inquire)

    async def usage(self) -> tuple[int, float, Sequence[float]]:
        lags = [lag for process in self._processes for lag in process.lags]
        return len(self._processes), sum(process.cpu_s for process in self._processes), lags

    async def aclose(self) -> None:
        await asyncio.gather(*(process.end() for process in self._processes))

    def _least(self, *, vanishing: bool) -> _Process:
        alive = [one for one in self._processes if one.vanishing is vanishing and not one.dead]
        least = min(alive, key=lambda process: process.busy, default=None)
        full = least is not None and least.busy >= CALLS_PER_PROCESS and len(alive) < self._most
        if least is None or (full and not vanishing):
            least = _Process(vanishing=vanishing)
            self._processes.append(least)
        return least


class _Process:
    """One caller process and the calls that it carries."""

    def __init__(self, *, vanishing: bool) -> None:
        self.vanishing = vanishing
        self._calls: dict[int, asyncio.Future[CallResult]] = {}
        """By numbers of their own: calls of several plans, which begin with 0 each, may share this process."""
        self._numbers = itertools.count()
        self._inquiries: dict[int, Inquiry] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - end() closes it
        self._starting = asyncio.ensure_future(self._start())
        self._reading: asyncio.Task[None] | None = None
        self.cpu_s = 0.0
        self.lags: list[float] = []
        self.dead = False
        self._hangs = False

    @property
    def busy(self) -> int:
        return len(self._calls)

    async def started(self) -> None:
        """Returns once it is running; ``ServiceError`` if it can't be started."""
        await asyncio.shield(self._starting)

    async def place(self, job: CallJob, inquire: Inquiry | None) -> CallResult:
        answer: asyncio.Future[CallResult] = asyncio.get_running_loop().create_future()
        number = next(self._numbers)
        self._calls[number] = answer
        if inquire is not None:
            self._inquiries[number] = lambda result: inquire(msgspec.structs.replace(result, id=job.id))
        try:
            process = await asyncio.shield(self._starting)
            self._send(process, CallerRequest(place=msgspec.structs.replace(job, id=number)))
            done, _ = await asyncio.wait({answer}, timeout=longest_s(job))
            if not done:
                self._hangs = True
                process.kill()  # its end is read as that of one that crashed
            return msgspec.structs.replace(await asyncio.shield(answer), id=job.id)
        except CallerCrashError as crash:
            raise CallerCrashError(msgspec.structs.replace(crash.result, id=job.id)) from None
        finally:
            self._calls.pop(number, None)
            self._inquiries.pop(number, None)
            # Lets a call that was given up hang up, and a fork that is done be reaped.
            if self._starting.done() and not self._starting.cancelled() and not self._starting.exception():
                self._send(self._starting.result(), CallerRequest(hang_up=number))

    async def end(self) -> None:
        """Close its stdin, which hangs up what is left; kill it if it does not go."""
        try:
            process = await self._starting
        except ServiceError:
            self._errors.close()
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()
        if self._reading is not None:
            await asyncio.wait({self._reading})
        self._errors.close()

    async def _start(self) -> asyncio.subprocess.Process:
        path = os.pathsep.join(filter(None, (_PACKAGE, os.environ.get("PYTHONPATH", ""))))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "voiceops.calls.worker",
                *(["--vanish"] if self.vanishing else []),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._errors,
                env=os.environ | {"PYTHONPATH": path},
                # Ctrl-C is for the pool, which then closes the pipes.
                start_new_session=True,
                limit=_LINE_LIMIT,
            )
        except OSError as error:
            raise ServiceError(f"can't start a caller process: {error.strerror or error}") from error
        self._reading = asyncio.get_running_loop().create_task(self._read(process))
        return process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        decode = msgspec.json.Decoder(CallerReply).decode
        assert process.stdout is not None
        while line := await process.stdout.readline():
            reply = decode(line)
            self.cpu_s = max(self.cpu_s, reply.cpu_s)
            self.lags.extend(reply.lags)
            if reply.failing is not None:
                self._ask(process, reply.failing)
            if reply.done is not None:
                answer = self._calls.get(reply.done.id)
                if answer is not None and not answer.done():
                    answer.set_result(reply.done)
            if reply.died is not None:
                self._lose(reply.died, reply.exit_code)
        self.dead = True
        code = await process.wait()
        for number in list(self._calls):
            self._lose(number, code)

    def _ask(self, process: asyncio.subprocess.Process, result: CallResult) -> None:
        inquire = self._inquiries.get(result.id)
        task = asyncio.ensure_future(self._asked(process, result, inquire))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _asked(
        self, process: asyncio.subprocess.Process, result: CallResult, inquire: Inquiry | None
    ) -> None:
        try:
            if inquire is not None:
                await inquire(result)
        finally:
            self._send(process, CallerRequest(hang_up=result.id))

    def _send(self, process: asyncio.subprocess.Process, order: CallerRequest) -> None:
        assert process.stdin is not None
        if not process.stdin.is_closing() and not self.dead:
            process.stdin.write(msgspec.json.encode(order) + b"\n")

    def _lose(self, number: int, code: int) -> None:
        answer = self._calls.get(number)
        if answer is None or answer.done():
            return
        if code in _CRASHES or self._hangs:
            answer.set_exception(CallerCrashError(self._lost(number, code)))
        else:
            answer.set_result(self._lost(number, code))

    def _lost(self, number: int, code: int) -> CallResult:
        self._errors.seek(max(0, os.fstat(self._errors.fileno()).st_size - _TAIL_BYTES))
        tail = self._errors.read().decode(errors="replace").strip()
        failure = CallFailure(
            kind=FailureKind.CALLER,
            detail="the caller process hung"
            if self._hangs
            else f"the caller process died (exit {code}) in the middle of the call",
            seen=tuple(tail.splitlines()[-5:]),
        )
        return CallResult(id=number, ok=False, room="", identity="", failure=failure)
