"""Many hosts at once: look at all of them, then deploy those that differ, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from voiceops.deploy.desired import HostState
from voiceops.deploy.rollout import HostDeployment
from voiceops.errors import VoiceopsError
from voiceops.fleet.order import batches
from voiceops.fleet.run import HostResult, SkipRest, exit_code, go_on, run_on
from voiceops.model.settings import Host
from voiceops.ports import Transport


@dataclass(slots=True)
class HostRun:
    """One host in this run: its connection, and what became of it."""

    host: Host
    transport: Transport
    open: Callable[[], None]
    """Waits until it is connected."""
    state: HostState | None = None
    planned: HostDeployment | None = None
    deployed: HostDeployment | None = None
    error: VoiceopsError | None = None
    skipped: str = ""
    """Why its turn never came."""

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def result(self) -> HostDeployment | None:
        return self.deployed or self.planned

    @property
    def ok(self) -> bool:
        return self.error is None and not self.skipped


@dataclass(slots=True, kw_only=True)
class Fleet:
    """The hosts of one run. Connections are kept from the first request to the end."""

    runs: list[HostRun]
    parallel: int
    on_done: Callable[[HostRun], None] = field(default=lambda run: None)

    def run(
        self,
        work: Callable[[HostRun], None],
        batches: Iterable[Sequence[HostRun]] | None = None,
        skip_rest: SkipRest = go_on,
    ) -> None:
        """Run ``work`` for all hosts at once, or for ``batches`` of them, and keep the result of each.

        Ctrl-C closes all connections, which ends each host's run before its next step.
        """
        named = {run.name: run for run in self.runs}

        def note(result: HostResult[None]) -> None:
            run = named[result.host]
            run.error, run.skipped = result.error, result.skipped
            self.on_done(run)

        run_on(
            [self.runs] if batches is None else batches,
            work,
            parallel=self.parallel,
            skip_rest=skip_rest,
            on_done=note,
            interrupt=self.close,
        )

    def batches(self, serial: int | str) -> list[list[HostRun]]:
        """The hosts that differ: what is needed first, one host ahead, then in batches."""
        differ = {
            run.name: run for run in self.runs if run.ok and run.planned and not run.planned.as_declared
        }
        order = batches([run.host for run in differ.values()], serial)
        return [[differ[host.name] for host in batch] for batch in order]

    def close(self) -> None:
        """End all connections; safe to call again."""
        for run in self.runs:
            run.transport.close()

    def exit_code(self, otherwise: int = 0) -> int:
        """The highest of all: hosts that could not be asked, then failures, then hosts never reached."""
        results: list[HostResult[None]] = [
            HostResult(host=run.name, error=run.error, skipped=run.skipped) for run in self.runs
        ]
        return exit_code(results, otherwise)
