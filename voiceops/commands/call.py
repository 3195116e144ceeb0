"""Place synthetic calls from here, or from the host whose LiveKit nobody else reaches."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from voiceops.adapters.ssh.transports import transport_to
from voiceops.calls.chart import draw
from voiceops.calls.page import page, save_page
from voiceops.calls.pictures import check, check_file, save
from voiceops.calls.plan import flags_of, longest_s, make_plan
from voiceops.calls.progress import progress
from voiceops.calls.records import call_records
from voiceops.calls.stats import CallReport, until_interrupted
from voiceops.calls.text import summary
from voiceops.cli.command import CommandRun, Report, names
from voiceops.cli.flags import CallFlags
from voiceops.deploy.host_calls import calls_from_host
from voiceops.errors import StorageError, UsageError
from voiceops.fleet.call_target import call_target
from voiceops.model.calls import CallPlan, CallResult, CallTarget
from voiceops.model.endpoint import reachable
from voiceops.model.protocol import PROBE_CALL_ENV
from voiceops.util import aio
from voiceops.wiring.calls import run_calls
from voiceops.wiring.history import record_history
from voiceops.wiring.why import why_of


def place_calls(run: CommandRun, flags: CallFlags) -> Report:
    """Place the calls, write the files that are asked for, and report them."""
    plan = make_plan(
        count=flags.count,
        concurrency=flags.concurrency,
        rate=flags.rate,
        duration=flags.duration,
        hold=flags.hold,
        min_quality=flags.min_quality,
        script=flags.script,
        hangups=names(flags.hangup, "--hangup"),
        redial=flags.redial,
        expect_success=flags.expect_success,
        timeout=run.timeout,
    )
    check(flags.plot)
    if flags.report:
        check_file("--report", flags.report)
    if not all(reachable(host) for host in run.project.hosts):
        _refuse_files({"--script": flags.script, "--report": flags.report, "--plot": flags.plot})
        arguments = [*flags_of(plan), *([f"--room={flags.room}"] if flags.room else [])]
        arguments += [f"--agent-name={flags.agent_name}"] if flags.agent_name else []
        return _from_host(run, arguments, flags.service, longest_s(plan))
    target = call_target(run.project.hosts, service=flags.service, room=flags.room)
    if flags.agent_name:
        target = msgspec.structs.replace(target, agent_name=flags.agent_name)
    logging.getLogger("livekit").setLevel(logging.DEBUG if run.debug else logging.CRITICAL)
    began = time.time()
    done = _place(run, target, plan)
    records = call_records(done.results, host=run.project.hosts[0].name, began=began)
    if records and PROBE_CALL_ENV not in os.environ:
        record_history(run.project, records, run.say)
    try:
        _save(run, done, target, report=flags.report, plot=flags.plot)
    except StorageError as error:
        # A disk that filled up meanwhile must not cost what the calls have shown.
        run.say(f"error: {error.message}")
        return Report(done.as_json(), summary(done), 1)
    return Report(done.as_json(), summary(done), done.exit_code)


def _place(run: CommandRun, target: CallTarget, plan: CallPlan) -> CallReport:
    """Place the calls; on Ctrl-C the report has those that were finished until then."""
    results: list[CallResult] = []
    with progress(plan, run.say, quiet=run.json) as on_result:

        def took(result: CallResult) -> None:
            results.append(result)
            on_result(result)

        started_at = time.monotonic()
        try:
            return aio.run(run_calls(target, plan, why=why_of(run.project), on_result=took))
        except KeyboardInterrupt:
            if not results:
                raise
            return until_interrupted(plan, results, time.monotonic() - started_at)


def _refuse_files(given: Mapping[str, str]) -> None:
    for flag, value in given.items():
        if value:
            raise UsageError(
                f"{flag} is a file of this machine, and the calls are placed on the host",
                hint="LiveKit listens on loopback only there: give livekit.url an address that is reached from here",
            )


def _from_host(run: CommandRun, flags: Sequence[str], service: str, longest_s: float) -> Report:
    """The same calls, placed by the host, whose LiveKit listens on loopback only."""
    if len(run.project.hosts) != 1:
        raise UsageError("each of these hosts has a LiveKit of its own", hint="choose one with --host NAME")
    (host,) = run.project.hosts
    run.say(f"calling from {host.name}: its LiveKit listens on loopback only")
    with contextlib.closing(transport_to(host)) as transport:
        document, text, code = calls_from_host(
            host, transport, service, flags, longest_s=longest_s, as_text=not run.json
        )
    # Made by the voiceops of the host: its document is passed on as it is.
    return Report(document, text, code)


def _save(run: CommandRun, done: CallReport, target: CallTarget, *, report: str, plot: str) -> None:
    if report:
        made_at = datetime.now().astimezone().isoformat(" ", "seconds")
        save_page(page(done, url=target.url, made_at=made_at), report)
        run.say(f"report: {report}")
    if plot:
        save(draw(done), plot)
        run.say(f"plot: {plot}")
