"""Find out how many calls at once a host carries, by placing them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from voiceops.calls.capacity import (
    CAPACITY_HEADINGS,
    LEAST_MEMORY,
    CapacityTrial,
    HostSample,
    capacity_row,
    capacity_text,
    first_to_give_in,
    judged,
    most_carried,
    next_calls,
    problem_of,
    settings_for,
)
from voiceops.calls.capacity_chart import draw_capacity
from voiceops.calls.capacity_page import capacity_page
from voiceops.calls.page import save_page
from voiceops.calls.pictures import check, check_file, save
from voiceops.calls.stats import CallReport
from voiceops.cli.command import CommandRun, Report
from voiceops.cli.flags import CapacityFlags
from voiceops.cli.output import show_table
from voiceops.errors import StorageError, UsageError, VoiceopsError
from voiceops.fleet.call_target import call_target
from voiceops.model.calls import CallPlan, CallTarget
from voiceops.model.endpoint import reachable
from voiceops.util import aio
from voiceops.wiring.calls import run_calls
from voiceops.wiring.capacity import CapacityProbe, host_probe

if TYPE_CHECKING:
    from voiceops.model.documents.doctor import CapacityDocument, CapacityLimit

LONGEST_S = 900.0
"""What the whole test may take, unless --timeout says."""
_PER_SECOND = 1.0
"""Callers come one after the other: all in one moment would measure the moment, and processes of jobs that start."""
_SAMPLE_S = 2.0
_SETTLED_S = 20.0
_QUIET_CPU = 0.5
"""Above it a host still ends the calls before, or prepares processes for the next ones, unless it was as busy before."""
_BUSIER = 0.1


def measure_capacity(run: CommandRun, flags: CapacityFlags) -> Report:
    """Double the number of calls until it is too much, then narrow it down."""
    if len(run.project.hosts) != 1:
        raise UsageError("a capacity is that of one host", hint="choose one with --host NAME")
    (host,) = run.project.hosts
    if flags.most < 1:
        raise UsageError("--most is 0: at least one call is needed", hint="`inv capacity --most 20`")
    if not reachable(host):
        raise UsageError(
            f"the LiveKit of {host.name} listens on loopback only",
            hint=f"run `inv capacity` on {host.name} itself, or give livekit.url an address that is reached from here",
        )
    check(flags.plot)
    if flags.report:
        check_file("--report", flags.report)
    target = call_target(run.project.hosts, service=flags.service)
    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    began = time.monotonic()
    with host_probe(run.project, host, run.say) as probe:
        _refuse_others(run, probe)
        test = _CapacityTest(run, target, probe, flags, ends_at=began + (run.timeout or LONGEST_S))
        aio.run(test.search())
    steps = judged(test.tries)
    gave_in = first_to_give_in(steps, callers_here=host.local)
    if test.out_of_memory:
        gave_in = ("memory", f"memory: {test.stopped}")
    settings = settings_for(steps, gave_in[0])
    document: CapacityDocument = {
        "call_count": most_carried(steps),
        "limited_by": gave_in[0],
        "detail": gave_in[1],
        "settings": settings,
        "stopped": test.stopped,
        "duration_s": round(time.monotonic() - began, 1),
        "steps": [one.as_json() for one in steps],
    }

    code = 0 if most_carried(steps) else 1
    try:
        _save(run, flags, steps, gave_in, document)
    except StorageError as error:
        # A disk that filled up meanwhile must not cost what was measured.
        run.say(f"error: {error.message}")
        code = 1

    def text() -> str:
        show_table([capacity_row(one) for one in steps], headings=CAPACITY_HEADINGS, right=range(9))
        stopped = f"\nstopped early: {test.stopped}; it may carry more" if test.stopped else ""
        return capacity_text(steps, gave_in, settings) + stopped

    return Report(document, text, code)


def _save(
    run: CommandRun,
    flags: CapacityFlags,
    steps: Sequence[CapacityTrial],
    gave_in: tuple[CapacityLimit, str],
    document: CapacityDocument,
) -> None:
    """Write the files that were asked for."""
    if flags.report:
        text = capacity_page(
            steps,
            gave_in,
            document["settings"],
            host=run.project.hosts[0].name,
            made_at=datetime.now().astimezone().isoformat(" ", "seconds"),
            duration_s=document["duration_s"],
            stopped=document["stopped"],
        )
        save_page(text, flags.report)
        run.say(f"report: {flags.report}")
    if flags.plot and steps:
        save(draw_capacity(steps, gave_in[0]), flags.plot)
        run.say(f"plot: {flags.plot}")


def _refuse_others(run: CommandRun, probe: CapacityProbe) -> None:
    """Raise where people are in a call, or might be: the test makes them hear what too many calls are."""
    if not run.yes:
        probe.others().refuse("they would be disturbed", "wait until they are over, or give --yes")


class _CapacityTest:
    """One search; ``tries`` has what was tried, in its order."""

    def __init__(
        self,
        run: CommandRun,
        target: CallTarget,
        probe: CapacityProbe,
        flags: CapacityFlags,
        *,
        ends_at: float,
    ) -> None:
        self._run = run
        self._target = target
        self._probe = probe
        self._flags = flags
        self._ends_at = ends_at
        self._before: HostSample | None = None
        """How the host was before the first call."""
        self.tries: list[CapacityTrial] = []
        self.stopped = ""
        """Why it ended before the number was known."""
        self.out_of_memory = False

    async def search(self) -> None:
        # The first call after a pause finds nothing in the host's memory, and says nothing about the ones after it.
        if await self._step(1) is None:
            return
        while (calls := next_calls(self.tries, self._flags.most)) is not None:
            step = await self._step(calls)
            if step is None:
                return
            self.tries.append(step)
            self._run.say(f"{calls} at once: {step.problem or 'carried'}")

    async def _step(self, calls: int) -> CapacityTrial | None:
        """Place that many; None where the test has to stop."""
        ramp_s = (calls - 1) / _PER_SECOND
        plan = CallPlan(
            count=calls,
            concurrency=calls,
            rate_per_s=_PER_SECOND,
            # The last caller comes at the end of the ramp; all are there for ``hold``.
            hold_s=ramp_s + self._flags.hold,
        )
        if time.monotonic() + 2 * ramp_s + self._flags.hold + plan.timeout_s > self._ends_at:
            self.stopped = "the time is over"
            return None
        await self._settle()
        samples: list[HostSample] = [await asyncio.to_thread(self._probe.sample)]
        placing = asyncio.ensure_future(run_calls(self._target, plan))
        watching = asyncio.ensure_future(self._watch(placing, samples))
        report: CallReport | None = None
        try:
            report = await placing
        except asyncio.CancelledError:
            if not watching.done():  # Ctrl-C
                raise
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        if report is None:
            return None
        problem = problem_of(report, calls)
        return CapacityTrial(calls=calls, problem=problem, report=report, samples=tuple(samples))

    async def _watch(self, placing: asyncio.Future[CallReport], samples: list[HostSample]) -> None:
        """Sample the host, and end the calls before they hurt it or other people."""
        while True:
            await asyncio.sleep(_SAMPLE_S)
            try:
                samples.append(await asyncio.to_thread(self._probe.sample))
                others = not self._run.yes and (await asyncio.to_thread(self._probe.others)).exists
            except VoiceopsError as error:
                self.stopped = f"the host could not be observed: {error.message}"
            else:
                self.out_of_memory = samples[-1].memory_available < LEAST_MEMORY
                if self.out_of_memory:
                    self.stopped = f"only {samples[-1].memory_available:.0%} of the memory was left"
                elif others:
                    self.stopped = "somebody else is in a call now"
            if self.stopped:
                placing.cancel()
                return

    async def _settle(self) -> None:
        """Wait until the calls before are over and the host is as quiet as it was, as far as that happens soon."""
        if self._before is None:
            self._before = await asyncio.to_thread(self._probe.sample)
            return
        quiet = max(_QUIET_CPU, self._before.cpu_share + _BUSIER)
        ends_at = time.monotonic() + _SETTLED_S
        while time.monotonic() < ends_at:
            now = await asyncio.to_thread(self._probe.sample)
            loaded = now.over_load and not self._before.over_load
            if not now.own_calls and not loaded and now.cpu_share < quiet:
                return
            await asyncio.sleep(1.0)
