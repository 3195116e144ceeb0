"""What agentkit costs a call and what it saves, against bare livekit-agents in the same run.

    python -m bench.calls alone        overhead on the first audio of a single call
    python -m bench.calls together     5 and 10 calls at once, p95 as a ratio
    python -m bench.calls faults       the same calls with each fault on, both columns [--only hangs]
    python -m bench.calls row          200 calls in a row, every third caller vanishes

Server, workers and callers share this machine: only the ratios mean something. Rounds
alternate between the two workers, so that both have the same neighbours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from tests.support import live, parts
from voiceops.calls.stats import CallReport, percentile
from voiceops.model.calls import CallPlan, CallResult, CallTarget, Hangup
from voiceops.model.secret import Secret
from voiceops.wiring.calls import run_calls

ROOT = Path(__file__).resolve().parent.parent
SESSION = ROOT / "bench" / "agents" / "session.py"
BARE_RENTAL = ROOT / "bench" / "agents" / "bare_rental.py"
RENTAL = ROOT / "examples" / "rental" / "agent.py"
SOURCE = ROOT / "examples" / "rental" / "source.py"
FAULT_TIMEOUT_S = 6.0
SETTLE_S = 180.0

SOURCE_FAULTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("source answers in 400 ms", {"delay_s": 0.4}),
    ("source answers 500", {"status": 500}),
    ("source answers 429", {"status": 429}),
    ("source hangs", {"hang": True}),
)
ENTRY_FAULTS = ("raise", "exit", "block", "stubborn")


@dataclass(frozen=True, slots=True)
class Side:
    """One worker and how to call it."""

    label: str
    target: CallTarget
    process: subprocess.Popen[bytes]


@contextmanager
def side(server: live.LiveServer, label: str, entry: Path, *, agentkit: bool, **env: str) -> Iterator[Side]:
    """A registered worker under a name of its own."""
    name = f"bench-{label}"
    variables = {"LIVEKIT_AGENT_NAME": name, "BENCH_AGENTKIT": "1" if agentkit else "0", **env}
    with live.worker(server, entry, agentkit=agentkit, env=variables) as process:
        target = CallTarget(
            url=server.url,
            api_key=Secret(server.api_key),
            api_secret=Secret(server.api_secret),
            agent_name=name,
        )
        yield Side(label, target, process)


def place(target: CallTarget, **plan: object) -> CallReport:
    """Carry out a plan."""
    return asyncio.run(run_calls(target, msgspec.structs.replace(CallPlan(), **plan)))


def alone(rounds: int) -> None:
    """One call at a time, the two workers in turn."""
    audio: dict[str, list[float]] = {"bare": [], "agentkit": []}
    with _two_sides() as sides:
        for number in range(rounds + 1):
            for one in sides if number % 2 else reversed(sides):
                result = place(one.target).results[0]
                # The first round warms both up: imports, page cache, spare processes.
                if number and result.audio_s is not None:
                    audio[one.label].append(result.audio_s)
                time.sleep(0.5)
    print(f"one call alone, {rounds} rounds: seconds to first audio")
    for label, values in audio.items():
        print(
            f"  {label:9} median {statistics.median(values):.3f}  p95 {percentile(values, 95):.3f}  ({len(values)})"
        )
    pairs = [kit - bare for bare, kit in zip(audio["bare"], audio["agentkit"], strict=False)]
    gap = statistics.median(audio["agentkit"]) - statistics.median(audio["bare"])
    print(
        f"  overhead of agentkit: {gap * 1000:+.0f} ms by medians, {statistics.median(pairs) * 1000:+.0f} ms by pairs"
    )


def together(rounds: int) -> None:
    """Several calls at once."""
    with _two_sides() as sides:
        for one in sides:
            place(one.target, count=2, concurrency=2)
        for at_once in (5, 10):
            audio: dict[str, list[float]] = {"bare": [], "agentkit": []}
            answered = {"bare": 0, "agentkit": 0}
            starved = 0
            for number in range(rounds):
                for one in sides if number % 2 else reversed(sides):
                    report = place(one.target, count=at_once, concurrency=at_once, timeout_s=30.0)
                    audio[one.label] += report.values("audio_s")
                    answered[one.label] += report.ok
                    starved += report.load.starved
                    _wait_until_idle(one.process)
            _print_together(at_once, rounds, audio, answered, starved)


def _print_together(
    at_once: int, rounds: int, audio: dict[str, list[float]], answered: dict[str, int], starved: int
) -> None:
    print(f"{at_once} calls at once, {rounds} rounds: seconds to first audio")
    for label, values in audio.items():
        print(
            f"  {label:9} answered {answered[label]} of {at_once * rounds}  "
            f"p50 {percentile(values, 50):.2f}  p95 {percentile(values, 95):.2f}"
        )
    ratio = percentile(audio["agentkit"], 95) / percentile(audio["bare"], 95)
    print(f"  p95 ratio agentkit / bare: {ratio:.2f}   (callers starved in {starved} of {rounds * 2} runs)")


def faults(calls: int, only: str) -> None:
    """Each fault on, for both columns; or those with ``only`` in their name."""
    print(f"| fault ({calls} calls each) | with agentkit | without |")
    print("|---|---|---|")
    _source_faults(calls, [one for one in SOURCE_FAULTS if only in one[0]])
    _entry_faults(max(1, calls // 20), [one for one in ENTRY_FAULTS if only in f"entrypoint: {one}"])


def _source_faults(calls: int, wanted: Sequence[tuple[str, dict[str, object]]]) -> None:
    if not wanted:
        return
    port = parts.free_port()
    with ExitStack() as stack:
        server = stack.enter_context(live.livekit_server(Path(stack.enter_context(_folder()))))
        stack.enter_context(_source(port))
        url = f"http://127.0.0.1:{port}"
        for label, switch in wanted:
            columns = []
            for name, entry in (("agentkit", RENTAL), ("bare", BARE_RENTAL)):
                _switch(url, switch)
                before = _requests(url)
                # A fresh worker per fault: nothing in its cache from the fault before.
                with side(server, name, entry, agentkit=name == "agentkit", RENTAL_URL=url) as one:
                    report = place(one.target, count=calls, concurrency=4, timeout_s=FAULT_TIMEOUT_S)
                columns.append(f"{_answered(report)}; {_requests(url) - before} requests")
            print(f"| {label} | {columns[0]} | {columns[1]} |", flush=True)


def _entry_faults(times: int, wanted: Sequence[str]) -> None:
    if not wanted:
        return
    with _two_sides() as sides:
        for fault in wanted:
            columns = []
            for one in reversed(sides):
                good: list[CallResult] = []
                for _ in range(times):
                    room = f"bench-{secrets.token_hex(4)}-{fault}"
                    place(msgspec.structs.replace(one.target, room=room), timeout_s=2.0)
                    good += place(one.target, timeout_s=FAULT_TIMEOUT_S).results
                alive = "worker alive" if one.process.poll() is None else "worker gone"
                ok = [result.audio_s for result in good if result.audio_s is not None]
                columns.append(f"next call answered {len(ok)} of {times}, {alive}")
            print(f"| entrypoint: {fault} | {columns[0]} | {columns[1]} |", flush=True)


def row(calls: int) -> None:
    """Call, hang up at once, call again; memory after the first quarter against the end."""
    with ExitStack() as stack:
        server = stack.enter_context(live.livekit_server(Path(stack.enter_context(_folder()))))
        one = stack.enter_context(side(server, "agentkit", SESSION, agentkit=True))
        hangups = (Hangup.CLEAN, Hangup.MID_GREETING, Hangup.ABRUPT)
        place(one.target)
        time.sleep(5)  # the spare process that replaces the one of this call
        spare = len(psutil.Process(one.process.pid).children(recursive=True))
        first = place(one.target, count=calls // 4, redial=True, hangups=hangups)
        _wait_until_idle(one.process, spare)
        before = _memory(one.process)
        second = place(one.target, count=calls - calls // 4, redial=True, hangups=hangups)
        settled_s = _wait_until_idle(one.process, spare)
        after = _memory(one.process)
        processes = len(psutil.Process(one.process.pid).children(recursive=True))
        same = one.process.poll() is None
    print(f"{calls} calls in a row, every third caller vanishes")
    print(f"  answered {first.ok + second.ok} of {calls}; worker pid {'unchanged' if same else 'CHANGED'}")
    print(
        f"  processes below the worker: {spare} when idle before, {processes} {settled_s:.0f} s after the end"
    )
    for label, index in (("worker and its processes", 0), ("worker alone", 1)):
        change = after[index] / before[index] - 1
        print(
            f"  PSS of {label}: {before[index]:.1f} MB after {calls // 4}, {after[index]:.1f} MB at the end ({change:+.1%})"
        )
    for report in (first, second):
        for result in report.results:
            if result.failure is not None:
                print(f"  call {result.id}: {result.failure.kind}: {result.failure.detail}")


@contextmanager
def _two_sides() -> Iterator[list[Side]]:
    with ExitStack() as stack:
        server = stack.enter_context(live.livekit_server(Path(stack.enter_context(_folder()))))
        yield [
            stack.enter_context(side(server, "bare", SESSION, agentkit=False)),
            stack.enter_context(side(server, "agentkit", SESSION, agentkit=True)),
        ]


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="voiceops-bench-")


@contextmanager
def _source(port: int) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, str(SOURCE), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        ends_at = time.monotonic() + 20
        while not _listens(port):
            if time.monotonic() > ends_at:
                raise RuntimeError("the data source did not start")
            time.sleep(0.05)
        yield
    finally:
        live.end(process)


def _listens(port: int) -> bool:
    return any(
        one.laddr.port == port and one.status == psutil.CONN_LISTEN
        for one in psutil.net_connections("tcp")
        if one.laddr
    )


def _switch(url: str, how: dict[str, object]) -> None:
    body = json.dumps(how).encode()
    request = urllib.request.Request(f"{url}/switch", data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        answer.read()


def _requests(url: str) -> int:
    with urllib.request.urlopen(f"{url}/stats", timeout=5) as answer:
        return int(json.load(answer).get("equipment", 0))


def _answered(report: CallReport) -> str:
    audio = report.values("audio_s")
    times = f", first audio p50 {percentile(audio, 50):.2f} s, max {max(audio):.2f} s" if audio else ""
    return f"{report.ok} of {len(report.results)} answered{times}"


def _wait_until_idle(process: subprocess.Popen[bytes], spare: int = 0) -> float:
    """Until the worker has no more processes than its ``spare`` ones, for a second; how long that took."""
    worker = psutil.Process(process.pid)
    quiet_since = time.monotonic()
    ends_at = time.monotonic() + SETTLE_S
    # The forkserver, the resource tracker, the spare processes and their inference process.
    spare = spare or (os.cpu_count() or 1) + 3
    while time.monotonic() < ends_at and time.monotonic() - quiet_since < 1.0:
        if len(worker.children(recursive=True)) > spare:
            quiet_since = time.monotonic()
        time.sleep(0.1)
    return SETTLE_S - (ends_at - time.monotonic())


def _memory(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """PSS in MB of the worker with all its processes, and of the worker alone."""
    worker = psutil.Process(process.pid)
    alone_mb = worker.memory_full_info().pss / 1e6
    return alone_mb + sum(
        child.memory_full_info().pss for child in worker.children(recursive=True)
    ) / 1e6, alone_mb


def main() -> None:
    """Run what is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    modes = parser.add_subparsers(dest="mode", required=True)
    for name, flag, default in (
        ("alone", "rounds", 20),
        ("together", "rounds", 4),
        ("faults", "calls", 100),
        ("row", "calls", 200),
    ):
        mode = modes.add_parser(name)
        mode.add_argument(f"--{flag}", type=int, default=default)
        if name == "faults":
            mode.add_argument("--only", default="", help="a part of a row's name, as hangs or raise")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    if arguments.mode == "alone":
        alone(arguments.rounds)
    elif arguments.mode == "together":
        together(arguments.rounds)
    elif arguments.mode == "faults":
        faults(arguments.calls, arguments.only)
    else:
        row(arguments.calls)


if __name__ == "__main__":
    main()
