"""Runs an agent that knows nothing of voiceops, with all of the outer pieces around it.

Replaces ``python -m livekit.agents start``, whose failures exit 0, which listens on
port 8081 of all interfaces, and which tells nobody when it is registered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceops.agentkit import lifecycle
from voiceops.agentkit.cache.ipc import CallStep, Hub
from voiceops.agentkit.cache.server import CacheHub
from voiceops.agentkit.call_steps import CallStepFile
from voiceops.agentkit.harmless import is_harmful
from voiceops.agentkit.health import HealthServer
from voiceops.agentkit.loglimit import LogLimiter
from voiceops.agentkit.notify import Notifier
from voiceops.agentkit.options import WorkerOptions
from voiceops.agentkit.proof_gate import call_share, gate_file, open_when_proved, proof_name
from voiceops.agentkit.signals import StopRequest
from voiceops.agentkit.worker import Worker
from voiceops.model.protocol import AGENT_STARTS

if TYPE_CHECKING:
    from livekit.agents import AgentServer

    from voiceops.agentkit.metrics import Metrics

log = logging.getLogger("voiceops.agentkit")

CLOSE_TIMEOUT_S = 60.0
"""What the jobs get to end after the drain ran out; the library alone would take 385 s each."""
TICK_S = 0.5


def run(arguments: argparse.Namespace, stop: StopRequest) -> int:
    """Run the worker until it is told to stop; the exit code: 0 only for a clean stop, 3 for what makes no sense."""
    try:
        options = WorkerOptions.resolve(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    if options.agent_name is not None:
        # LIVEKIT_AGENT_NAME is only a default for agents that name themselves nothing.
        os.environ["LIVEKIT_AGENT_NAME_OVERRIDE"] = options.agent_name
    limiter = _set_up_logging(options)
    log.info(AGENT_STARTS, extra={"entry": str(options.entry)})
    try:
        server = discover(options.entry)
    except Exception:
        log.exception("the entry can't be loaded", extra={"entry": str(options.entry)})
        return 1
    finally:
        gc.enable()
    if stop.requested:
        return 0
    return asyncio.run(_WorkerRun(options, server, stop, limiter).main())


def _set_up_logging(options: WorkerOptions) -> LogLimiter:
    from livekit.agents.cli.log import setup_logging

    setup_logging(options.log_level, devmode=options.log_format == "colored", console=False)
    limiter = LogLimiter()
    # Job processes log through the main process: its handlers see every line.
    for handler in logging.getLogger().handlers:
        handler.addFilter(is_harmful)
        handler.addFilter(limiter)
        handler.addFilter(_with_job)
        handler.addFilter(_only_under_pii)
    if options.call_steps:
        logging.getLogger().addHandler(CallStepFile(Path(options.call_steps)))
    return limiter


def _with_job(record: logging.LogRecord) -> bool:
    """Name the job of a line from a job that runs in a thread: livekit-agents does so for job processes only."""
    from livekit.agents import get_job_context

    context = None if hasattr(record, "job_id") else get_job_context(required=False)
    if context is not None:
        job = context.job
        vars(record).update(job_id=job.id, room=job.room.name, room_id=job.room.sid)
    return True


def _only_under_pii(record: logging.LogRecord) -> bool:
    """livekit-agents adds ``room`` to each line of a job; in ours it stands under ``pii``."""
    if record.name.startswith("voiceops.") and hasattr(record, "pii"):
        vars(record).pop("room", None)
    return True


def discover(entry: Path) -> AgentServer:
    """The AgentServer that ``entry`` defines, found as ``python -m livekit.agents`` finds it."""
    from livekit.agents.cli.discover import get_import_data

    data = get_import_data(path=entry)
    module = importlib.import_module(data.module_data.module_import_str)
    server: AgentServer = getattr(module, data.app_name)
    return server


class _WorkerRun:
    """One run of a worker in its event loop."""

    def __init__(
        self, options: WorkerOptions, server: AgentServer, stop: StopRequest, limiter: LogLimiter
    ) -> None:
        self.options = options
        self.server: Any = server
        self.stop = stop
        self.notifier = Notifier()
        self.gate = gate_file(options.health_socket)
        self.worker = Worker(
            server,
            max_jobs=options.max_jobs,
            load_limit=options.load_limit,
            proof_name=proof_name(self.gate),
            share=call_share(self.gate),
        )
        self.limiter = limiter
        self.hub = Hub()
        self.reported: set[str] = set()
        """Calls whose job told of a failure itself."""
        self._told = ""

    async def main(self) -> int:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        self.stop.listen(lambda: _wake(loop, asked))
        self.worker.attach()
        self.worker.on_connection_change = self._connection_changed
        self.server.on("worker_registered", self._registered)
        metrics = self._collect_metrics()
        health = HealthServer(
            self.worker,
            socket_path=self.options.health_socket,
            port=self.options.health_port,
            metrics=metrics.render,
        )
        try:
            await self.hub.start()
            await health.start()
        except OSError:
            log.exception("the health address can't be used")
            await self.hub.close()
            await health.close()
            return 1
        keepers = [asyncio.create_task(self._keep_telling(), name="voiceops_keeper")]
        if self.gate is not None and (self.worker.proof_name or self.worker.share < 1):
            keepers.append(
                asyncio.create_task(open_when_proved(self.gate, self.worker), name="voiceops_gate")
            )
        from voiceops.agentkit.ended_sessions import EndedSessions

        ended_sessions = EndedSessions(self.worker)
        logging.getLogger().addHandler(ended_sessions)
        try:
            return await self._serve(asked)
        finally:
            logging.getLogger().removeHandler(ended_sessions)
            await ended_sessions.stop()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await health.close()
            await self.hub.close()
            self.limiter.report()
            _kill_job_processes()

    def _collect_metrics(self) -> Metrics:
        from voiceops.agentkit.metrics import Metrics

        cache = CacheHub()
        metrics = Metrics(self.worker, cache, self.limiter)

        def on_event(event: CallStep) -> None:
            if event.get("step") == lifecycle.FAILED:
                self._count_failure(str(event.get("call_id")))
            metrics.on_event(event)

        def on_launch(_process: object) -> None:
            metrics.picked_up()
            self._tell()

        self.hub.on_event = on_event
        self.hub.on_cache = cache.handle
        self.worker.on_launch = on_launch
        self.worker.on_close = self._job_over
        return metrics

    def _count_failure(self, call_id: str) -> None:
        if call_id not in self.reported:
            self.reported.add(call_id)
            self.worker.failed_count += 1

    def _job_over(self, process: Any) -> None:
        job = process.running_job
        steps = lifecycle.Lifecycle(
            job.job.id,
            pii={"room": job.job.room.name},
            offered_s_ago=time.time() - job.received_at if job.received_at else 0.0,
        )
        exit_code = getattr(process, "exitcode", None)  # a job in a thread has none
        if exit_code and job.job.id not in self.reported:
            # sys.exit, a crash or a kill: nothing in the job lived to tell.
            self.worker.failed_count += 1
            steps.emit(lifecycle.FAILED, level=logging.ERROR, phase="process", exit_code=exit_code)
        self.reported.discard(job.job.id)
        steps.emit(lifecycle.READY_FOR_NEXT, exit_code=exit_code, calls=self.worker.calls - 1)
        self._tell()

    async def _serve(self, asked: asyncio.Event) -> int:
        serving = asyncio.create_task(self.server.run(devmode=False), name="voiceops_worker")
        waiting = asyncio.create_task(asked.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        failed = not asked.is_set()
        if failed:
            error = serving.exception() if not serving.cancelled() else None
            log.error("worker failed", exc_info=error)
        self.worker.stopping()
        self.notifier.stopping(self._sentence())
        clean = await self._drain_and_close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return 1 if failed or not clean else 0

    async def _drain_and_close(self) -> bool:
        from voiceops.agentkit.unattended import leave_unattended_rooms

        if self.worker.started:
            leaving = asyncio.create_task(leave_unattended_rooms(self.worker), name="voiceops_unattended")
            try:
                await self.server.drain(timeout=self.options.drain_timeout_s or None)
            except asyncio.TimeoutError:
                log.warning("calls outlasted the drain and are ended", extra={"calls": self.worker.calls})
            finally:
                leaving.cancel()
                (ended,) = await asyncio.gather(leaving, return_exceptions=True)
                if isinstance(ended, Exception):
                    log.error("unattended rooms were not looked for", exc_info=ended)
        closing = asyncio.create_task(self.server.aclose())
        done, _ = await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
        if not done:
            log.error("jobs did not end and are killed", extra={"calls": self.worker.calls})
            _kill_job_processes()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(closing, 10)
            return False
        if closing.exception() is not None:
            log.error("worker did not close", exc_info=closing.exception())
            return False
        return True

    def _registered(self, _worker_id: str, _info: object) -> None:
        # It fires again at each reconnect; READY=1 twice does no harm.
        self.notifier.ready()

    def _connection_changed(self) -> None:
        if not self.worker.registered and not self.worker.draining:
            log.warning("lost the connection to LiveKit")
        self._tell()

    async def _keep_telling(self) -> None:
        loop = asyncio.get_running_loop()
        interval_s = min(TICK_S, self.notifier.watchdog_s or TICK_S)
        fed_at = 0.0
        while True:
            self._tell()
            if (
                self.notifier.watchdog_s is not None
                and loop.time() - fed_at >= self.notifier.watchdog_s - 0.01
            ):
                self.notifier.alive()
                fed_at = loop.time()
            await asyncio.sleep(interval_s)

    def _tell(self) -> None:
        sentence = self._sentence()
        if sentence != self._told:
            self._told = sentence
            self.notifier.status(sentence)

    def _sentence(self) -> str:
        calls = f"{self.worker.calls} call{'' if self.worker.calls == 1 else 's'}"
        if self.worker.draining:
            return f"draining, {calls}"
        if self.worker.registered and self.worker.proof_name:
            return f"registered for its proof call, {calls}"
        if self.worker.registered and self.worker.share < 1:
            return f"registered for {self.worker.share:.0%} of new calls, {calls}"
        if self.worker.registered:
            return f"registered, {calls}"
        return f"connecting to LiveKit, {calls}" if self.worker.started else "starting"


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
        loop.call_soon_threadsafe(event.set)


def _kill_job_processes() -> None:
    """The forkserver, which otherwise outlives us by the seconds of its imports, and its jobs."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                # The resource tracker stays: it has to clean up after them, and ends with us.
                if "multiprocessing.resource_tracker" not in " ".join(child.cmdline()):
                    child.kill()
