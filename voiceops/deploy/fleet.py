"""Many hosts at once: look at all of them, then deploy those that differ, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from voiceops.deploy.desired import HostState
from voiceops.deploy.rollout import Deployed
from voiceops.errors import VoiceopsError
from voiceops.fleet.order import batches
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
    planned: Deployed | None = None
    deployed: Deployed | None = None
    error: VoiceopsError | None = None
    skipped: str = ""
    """Why its turn never came."""

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def result(self) -> Deployed | None:
        return self.deployed or self.planned

    @property
    def ok(self) -> bool:
        return self.error is None and not self.skipped


Work = Callable[[HostRun], None]


@dataclass(slots=True, kw_only=True)
class Fleet:
    """The hosts of one run. Connections are kept from the first look to the end."""

    runs: list[HostRun]
    parallel: int
    on_done: Callable[[HostRun], None] = field(default=lambda run: None)

    def each(self, runs: Sequence[HostRun], work: Work) -> None:
        """``work`` for all of them side by side; an error stays with its host, a bug is raised at the end.

        Ctrl-C closes all connections, which ends each host's run before its next step.
        """
        if not runs:
            return
        bug: BaseException | None = None
        pool = ThreadPoolExecutor(max_workers=max(1, min(self.parallel, len(runs))))
        futures: dict[Future[Any], HostRun] = {pool.submit(work, run): run for run in runs}
        try:
            for future in as_completed(futures):
                run = futures[future]
                try:
                    future.result()
                except VoiceopsError as error:
                    run.error = error
                except Exception as error:  # noqa: BLE001 - raised below, once all hosts are through
                    bug = bug or error
                self.on_done(run)
        except BaseException:
            self.close()
            raise
        finally:
            for future in futures:
                future.cancel()
            pool.shutdown(wait=True)
        if bug is not None:
            raise bug

    def roll(self, work: Work, *, serial: int | str, max_fail: int) -> None:
        """``work`` for the hosts that differ, what is needed first, one host ahead, then in batches."""
        differ = {
            run.name: run for run in self.runs if run.ok and run.planned and not run.planned.as_declared
        }
        failed = 0
        ahead_failed = False
        order = batches([run.host for run in differ.values()], serial)
        for number, batch in enumerate(order):
            chosen = [differ[host.name] for host in batch]
            if failed > max_fail or ahead_failed:
                for run in chosen:
                    run.skipped = "a host before it failed"
                continue
            self.each(chosen, work)
            failed += sum(run.error is not None for run in chosen)
            ahead_failed = ahead_failed or (number == 0 and failed > 0)

    def close(self) -> None:
        """End all connections; safe to call again."""
        for run in self.runs:
            run.transport.close()

    def exit_code(self) -> int:
        """The gravest first: hosts that could not be asked, then failures, then hosts never reached."""
        codes = [run.error.exit_code for run in self.runs if run.error is not None]
        return max(codes, default=1 if any(run.skipped for run in self.runs) else 0)
