"""The one place that touches the private parts of livekit-agents' worker.

``AgentServer`` has no public way to tell whether it is connected, to bind its HTTP server
elsewhere, or to limit its jobs. What is used here is read from livekit-agents 1.8.9
(``livekit/agents/worker.py``) and held by a test against the installed version and by
tests against a real server that is killed and comes back.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from voiceops.agentkit import prepare
from voiceops.agentkit.call_share import steered_load
from voiceops.agentkit.connection import reconnect_when_told, shut_down
from voiceops.agentkit.loopwatch import LoopWatch
from voiceops.model.protocol import TARGET_LOAD

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse
    from livekit.agents import AgentServer
    from livekit.agents.job import RunningJobInfo

log = logging.getLogger("voiceops.agentkit")

_BELOW_GATE = 0.99 * TARGET_LOAD
_REMEMBERED = 200
BLOCKED_S = 10.0
"""A worker that blocks its loop for this long leaves LiveKit, and registers again when it goes on. LiveKit offers
it calls all the while, waits 3 s for an answer and tries no other worker: beside a healthy one, half are lost."""

PRIVATE_NAMES = (
    "_agent_name",
    "_closed",
    "_drain_timeout",
    "_get_effective_load",
    "_host",
    "_is_available",
    "_job_executor_type",
    "_load_threshold",
    "_port",
    "_proc_pool",
    "_request_fnc",
    "_reserved_slots",
    "_run_ws",
    "_update_worker_status",
    "_worker_load",
)


class Worker:
    """A livekit-agents worker seen from outside: the truth about it, and its limit on jobs.

    ``attach`` before ``server.run()``; everything else may be read at any time.
    """

    def __init__(
        self,
        server: AgentServer,
        *,
        max_jobs: int | None = None,
        load_limit: float | None = None,
        proof_name: str = "",
        share: float = 1.0,
    ) -> None:
        self.server: Any = server
        self._server_back = asyncio.Event()
        self.max_jobs = max_jobs
        self._load_limit = load_limit
        self._measured: float | None = None
        self.connections = 0
        """How often it registered; more than one means that it reconnected."""
        self.refused = 0
        """Offers refused because of ``max_jobs``."""
        self.refused_for_load = 0
        """Offers refused because of the load. Over its limit a worker mostly gets none: the server knows."""
        self.on_connection_change: Callable[[], None] = lambda: None
        self.on_launch: Callable[[object], None] = lambda process: None
        """A process got a job; called with livekit-agents' job executor."""
        self.on_close: Callable[[object], None] = lambda process: None
        """A process that had a job is gone."""
        self.proof_name = proof_name
        """Registered under this name until ``take_calls``; empty: under its own."""
        self.share = share
        """Of new calls, which it takes beside the run that it is to replace; 1: all that it is offered."""
        self.taken: deque[str] = deque(maxlen=_REMEMBERED)
        """Rooms of the last calls that it has taken, the oldest first."""
        self.taken_count = 0
        self.failed_count = 0
        """Calls whose job said that they failed, or ended with an exit code."""
        self._own_name = ""
        self._end_share: Callable[[], None] | None = None
        """Gives the server its own threshold back, while a share of the calls is taken."""
        self._own_limit = math.inf
        """``load_limit`` while a share of the calls is taken."""
        self._unsteered = 0.0
        """The load that it would report without a share."""
        self._ws: ClientWebSocketResponse | None = None
        self._registered = False
        self._stopping = False
        self._mark = prepare.process_mark()
        self._sweeps: set[asyncio.Task[object]] = set()
        self._born = time.monotonic()

    def attach(self) -> None:
        """Hook into the server: connection, availability, HTTP address."""
        # Port 8081 on all interfaces is the default: a second worker there ends with exit 0.
        self.server._host = "127.0.0.1"
        self.server._port = 0
        self._own_name = str(self.server._agent_name)
        if self.proof_name:
            self.server._agent_name = self.proof_name
        if self._load_limit is not None:
            self._set_load_limit(self._load_limit)
        # The library adds a guess for each job that is about to start, which on two idle
        # cores makes it refuse the third of three calls at once - for ever, as LiveKit
        # offers no job twice. What counts here is what is measured.
        self.server._get_effective_load = lambda: self._reported_load
        if self.share < 1:
            self._steer()
        self._watch_connection()
        self._mark_agents()
        self.server.on("worker_started", self._watch_processes)
        self._load_engine()
        self._count_refusals()

    def _load_engine(self) -> None:
        """Before jobs in threads do it: of two that begin at once each would, and the call of the first never connects."""
        client = sys.modules.get("livekit.rtc._ffi_client")
        if client is not None and self.server._job_executor_type.name == "THREAD":
            _ = client.FfiClient.instance

    def _set_load_limit(self, limit: float) -> None:
        """Report a load that meets the server's own gate where the measured one meets ``limit``.

        A threshold of its own would not do: the server offers nothing to a worker that
        reports ``TARGET_LOAD``. Without a limit the load is still told, below the gate, as
        the server gives more calls to who has less.
        """
        measure = self._load_measure()
        unlimited = math.isinf(limit)
        self.server._load_threshold = limit if unlimited else TARGET_LOAD

        def report(worker: object) -> float:
            load = measure(worker)
            self._measured = load
            return min(load, 1.0) * _BELOW_GATE if unlimited else load * TARGET_LOAD / limit

        self.server.load_fnc = report

    def _watch_connection(self) -> None:
        run_ws = self.server._run_ws

        async def watched(ws: Any) -> None:
            # _run_ws starts right after the register response and ends with the
            # connection, also when the server vanished (heartbeat): exactly "registered".
            self._registered = True
            self._server_back.clear()
            reconnect_when_told(self.server, self._server_back)
            self._ws = ws
            self.connections += 1
            self.on_connection_change()
            try:
                with LoopWatch(threshold_s=BLOCKED_S, on_block=lambda block: shut_down(ws)):
                    await run_ws(ws)
            finally:
                self._registered = False
                self._ws = None
                self.on_connection_change()

        self.server._run_ws = watched

    def server_is_back(self) -> None:
        """Have a worker that waits for its next try to connect try at once."""
        self._server_back.set()

    async def take_calls(self, *, share: float = 1.0) -> None:
        """Register under the worker's own name: its release is proved. Safe to call twice.

        The name is part of the registration, so the connection is closed; the library connects again at once.
        ``share``: of new calls, beside the run that takes the rest; LiveKit knows of it before this returns.
        """
        if share < 1:
            self.share = share
            self._steer()
        elif self._end_share is not None:
            # Beside one that begins to drain, the load of a share alone means to LiveKit that all are full.
            self._end_share()
            self._end_share = None
            self.server._worker_load = self._unsteered
            await self.server._update_worker_status()
            self.share = 1.0
        if not self.proof_name:
            return
        self.proof_name = ""
        self.server._agent_name = self._own_name
        log.info("proved: registering under the agent's own name")
        if self._ws is not None:
            shut_down(self._ws)

    def _steer(self) -> None:
        """Report a load by which LiveKit gives this worker its share of new calls."""
        if self._end_share is not None:
            return
        measure, threshold = self._load_measure(), self.server._load_threshold
        full = self._own_limit = self.load_limit
        if self._load_limit is not None and math.isfinite(full):
            full = TARGET_LOAD  # what is reported where the limit is met

        def report(worker: object) -> float:
            own = self._unsteered = measure(worker)
            if self._load_limit is None:
                self._measured = own
            if self._end_share is None:
                return own
            return 1.0 if own >= full else steered_load(own, self.share)

        self._end_share = partial(setattr, self.server, "_load_threshold", threshold)
        self.server.load_fnc = report
        self.server._load_threshold = 1.0
        self._unsteered = self._reported_load
        self.server._worker_load = steered_load(self._reported_load, self.share)

    def _load_measure(self) -> Callable[[object], float]:
        """What the agent's code measures its load by, else the library's own way."""
        from livekit.agents.worker import _DefaultLoadCalc

        measure: Callable[..., float] = self.server.load_fnc or _DefaultLoadCalc.get_load
        takes_worker = bool(inspect.signature(measure).parameters)
        return lambda worker: float(measure(worker) if takes_worker else measure())

    def _mark_agents(self) -> None:
        """Agents carry the mark of their worker, and find no dead ones of their name in the room."""
        from livekit.agents.worker import _default_request_fnc

        handler = self.server._request_fnc or _default_request_fnc

        async def prepared(request: Any) -> None:
            on_accept = request._on_accept

            async def accept(arguments: Any) -> None:
                arguments.attributes = {prepare.WORKER_ATTRIBUTE: self._mark, **(arguments.attributes or {})}
                await on_accept(arguments)

            request._on_accept = accept
            # Beside the accept, never before it: the server's patience is 3 s.
            sweep = asyncio.create_task(prepare.prepare_room(request, live=lambda: self.identities))
            self._sweeps.add(sweep)
            sweep.add_done_callback(self._sweeps.discard)
            await handler(request)

        self.server._request_fnc = prepared

    def _watch_processes(self) -> None:
        pool = self.server._proc_pool
        pool.on("process_job_launched", lambda process: self._launched(process, process.running_job))
        pool.on("process_closed", lambda process: self.on_close(process) if process.running_job else None)

    def _launched(self, process: object, job: RunningJobInfo | None) -> None:
        self.taken_count += 1
        if job is not None:
            self.taken.append(job.job.room.name)
        self.on_launch(process)

    def _count_refusals(self) -> None:
        is_available = self.server._is_available

        def limited() -> bool:
            # The caller reserves a slot without an await in between, so two offers at
            # once can't both take the last one. The refusal leaves terminate=False: the
            # server asks another worker. Not done by the load: a worker that reports
            # itself full gets no offer until its next report, 2.5 s after a slot is free.
            if self.at_limit:
                self.refused += 1
                return False
            available = bool(is_available())
            if not available and not self.draining:
                self.refused_for_load += 1
                log.warning("call refused", extra={"reason": self.refusal})
            return available

        self.server._is_available = limited

    @property
    def registered(self) -> bool:
        """Whether the server can offer jobs to this worker right now."""
        return self._registered

    @property
    def started(self) -> bool:
        return not self.server._closed

    @property
    def draining(self) -> bool:
        return self._stopping or bool(self.server.draining)

    def stopping(self) -> None:
        """A drain is decided; the library's own flag follows once its lock is free."""
        self._stopping = True

    @property
    def jobs(self) -> list[Any]:
        """``RunningJobInfo`` of each job whose process lives."""
        pool = getattr(self.server, "_proc_pool", None)
        if pool is None:
            return []
        return [process.running_job for process in pool.processes if process.running_job]

    async def end_job(self, job: RunningJobInfo) -> None:
        """Tell a job to end, as livekit-agents does when its room disconnects; one that already ends goes on."""
        from livekit.agents import ipc, utils

        for process in self.server._proc_pool.processes:
            if process.running_job is job:
                with suppress(utils.aio.duplex_unix.DuplexClosed):  # it has ended meanwhile
                    await ipc.channel.asend_message(process._pch, ipc.proto.ShutdownRequest())

    @property
    def calls(self) -> int:
        return len(self.jobs)

    @property
    def rooms(self) -> list[str]:
        return sorted(job.job.room.name for job in self.jobs)

    @property
    def identities(self) -> frozenset[str]:
        """Participant identities of this worker's live agents."""
        return frozenset(job.accept_arguments.identity for job in self.jobs)

    @property
    def load(self) -> float:
        """As it was measured: by default the share of all CPU in use, over 2.5 s."""
        return self._reported_load if self._measured is None else self._measured

    @property
    def _reported_load(self) -> float:
        return float(getattr(self.server, "_worker_load", 0.0))

    @property
    def agent_name(self) -> str:
        """The name under which it takes calls."""
        return self._own_name

    @property
    def worker_id(self) -> str:
        return str(self.server.id)

    @property
    def at_limit(self) -> bool:
        if self.max_jobs is None:
            return False
        return self.calls + int(getattr(self.server, "_reserved_slots", 0)) >= self.max_jobs

    @property
    def load_limit(self) -> float:
        """The load from which it takes no more calls; infinite without a limit."""
        from livekit.agents.worker import ServerEnvOption

        if self._load_limit is not None:
            return self._load_limit
        return (
            self._own_limit
            if self._end_share
            else float(ServerEnvOption.getvalue(self.server._load_threshold, False))
        )

    @property
    def refusal(self) -> str | None:
        """Why it can't take a call now; None when it can."""
        if self.draining:
            return "draining"
        if not self.registered:
            return "not registered with LiveKit"
        if self.proof_name:
            return "waits for its proof call"
        if self.at_limit:
            return f"at its limit of {self.max_jobs} calls"
        if self.load >= self.load_limit:
            return f"load {self.load:.2f} has reached the limit of {self.load_limit:g}"
        return None

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._born
