"""``inv call``: synthetic callers over real WebRTC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceops.cli.command import TARGETS, Report, Run, command, names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voiceops.calls.stats import CallReport
    from voiceops.model.calls import CallPlan, CallResult, CallTarget


@command(
    *TARGETS,
    "timeout",
    help={
        "count": "How many calls (default 1).",
        "concurrency": "Calls at once (default: 1, or what --rate needs).",
        "rate": "Calls started per second (0: as soon as a caller is free).",
        "duration": "Call for that many seconds instead of --count times.",
        "hold": "Seconds that a caller stays after it has heard the agent.",
        "script": "WAV file to say after the greeting; the agent must answer it.",
        "hangup": "clean, abrupt (the caller vanishes) or mid-greeting; several as a,b are taken in turn.",
        "redial": "Hang up and call again at once, as the same caller.",
        "room": "Call into this room instead of a fresh one, and leave it standing.",
        "service": "The agent service to call, where there are several.",
        "report": "Write an HTML report to this file.",
        "plot": "Write a picture of all calls to this file (.png or .svg).",
        "expect-success": "Smallest share of answered calls for exit code 0 (default 0.95).",
        "timeout": "Seconds from dialling to hearing the agent, per call (default 15).",
    },
)
def call(
    run: Run,
    count: int = 1,
    concurrency: int = 0,
    rate: float = 0.0,
    duration: float = 0.0,
    hold: float = 0.0,
    script: str = "",
    hangup: str = "clean",
    redial: bool = False,
    room: str = "",
    service: str = "",
    report: str = "",
    plot: str = "",
    expect_success: float = 0.95,
) -> Report:
    """Call the agent as a caller does: times to connect, to agent, to first audio.

    Example: inv call --count 100 --concurrency 5 --hangup clean,abrupt --plot calls.png
    """
    import logging

    from voiceops.calls.pictures import check, check_file
    from voiceops.calls.plan import flags_of, longest_s, make_plan
    from voiceops.calls.text import summary
    from voiceops.errors import StorageError
    from voiceops.wiring import project
    from voiceops.wiring.endpoint import reachable

    plan = make_plan(
        count=count,
        concurrency=concurrency,
        rate=rate,
        duration=duration,
        hold=hold,
        script=script,
        hangups=names(hangup),
        redial=redial,
        expect_success=expect_success,
        timeout=run.timeout,
    )
    check(plot)
    if report:
        check_file("--report", report)
    if not all(reachable(host) for host in run.project.hosts):
        _refuse_files({"--script": script, "--report": report, "--plot": plot})
        flags = [*flags_of(plan), *([f"--room={room}"] if room else [])]
        return _from_host(run, flags, service, longest_s(plan))
    target = project.call_target(run.project.hosts, service=service, room=room)
    logging.getLogger("livekit").setLevel(logging.DEBUG if run.debug else logging.CRITICAL)
    done = _place(run, target, plan)
    try:
        _save(run, done, target, report=report, plot=plot)
    except StorageError as error:
        # A disk that filled up meanwhile must not cost what the calls have shown.
        run.say(f"error: {error.message}")
        return Report(done.as_json(), summary(done), 1)
    return Report(done.as_json(), summary(done), done.exit_code)


def _place(run: Run, target: CallTarget, plan: CallPlan) -> CallReport:
    """Place the calls; on Ctrl-C the report has those that were finished until then."""
    import time

    from voiceops.calls.progress import progress
    from voiceops.calls.stats import until_interrupted
    from voiceops.util import aio
    from voiceops.wiring import project
    from voiceops.wiring.doctor import why_of

    results: list[CallResult] = []
    with progress(plan, run.say, quiet=run.json) as on_result:

        def took(result: CallResult) -> None:
            results.append(result)
            on_result(result)

        started_at = time.monotonic()
        try:
            return aio.run(project.run_calls(target, plan, why=why_of(run.project), on_result=took))
        except KeyboardInterrupt:
            if not results:
                raise
            return until_interrupted(plan, results, time.monotonic() - started_at)


def _refuse_files(given: Mapping[str, str]) -> None:
    from voiceops.errors import UsageError

    for flag, value in given.items():
        if value:
            raise UsageError(
                f"{flag} is a file of this machine, and the calls are placed on the host",
                hint="LiveKit listens on loopback only there: give livekit.url an address that is reached from here",
            )


def _from_host(run: Run, flags: Sequence[str], service: str, longest_s: float) -> Report:
    """The same calls, placed by the host, whose LiveKit listens on loopback only."""
    import contextlib

    from voiceops.adapters.ssh.transports import transport_to
    from voiceops.errors import UsageError
    from voiceops.wiring.deploy import calls_from_host

    if len(run.project.hosts) != 1:
        raise UsageError("each of these hosts has a LiveKit of its own", hint="choose one with --host NAME")
    (host,) = run.project.hosts
    run.say(f"calling from {host.name}: its LiveKit listens on loopback only")
    with contextlib.closing(transport_to(host)) as transport:
        document, text, code = calls_from_host(
            host, transport, service, flags, longest_s=longest_s, as_text=not run.json
        )
    return Report(document, text, code)


def _save(run: Run, done: CallReport, target: CallTarget, *, report: str, plot: str) -> None:
    if report:
        from datetime import datetime

        from voiceops.calls.page import save_page

        save_page(done, report, url=target.url, made_at=datetime.now().astimezone().isoformat(" ", "seconds"))
        run.say(f"report: {report}")
    if plot:
        from voiceops.calls.chart import draw
        from voiceops.calls.pictures import save

        save(draw(done), plot)
        run.say(f"plot: {plot}")
