"""Calls that failed in the agent's code, code that can't be loaded, and agents of another name."""

from __future__ import annotations

from tests.unit.doctor.scenes import (
    NOW,
    agent,
    caller,
    offered,
    raised,
    room,
    scene,
    server,
    server_line,
    without_time,
    worker,
    worker_line,
)
from voiceops.doctor.diagnose import diagnose
from voiceops.doctor.facts import HostFact, LogEvent
from voiceops.model.protocol import AGENT_STARTS
from voiceops.model.states import ServiceState

HERE = worker(code_folder="/project")
GONE = worker(
    state=ServiceState.MISSING,
    registered=None,
    answers=False,
    pid=None,
    started_at=None,
    code_folder="/project",
)


def test_calls_that_failed_and_are_over_are_an_error_with_exception_file_and_line() -> None:
    events = (offered(90), raised(89.8), offered(60, "AJ_2"), raised(59.8, "AJ_2"))
    (finding,) = diagnose(scene(workers=(HERE,), events=events))
    assert (finding.rule, finding.severity, finding.by_hand) == ("calls-failed", "error", True)
    assert finding.sentence == "The last 2 calls of agent failed: RuntimeError: no database (agent.py:31)."
    assert without_time(finding.evidence)[-2:] == [
        "worker log: unhandled exception while running the job task: RuntimeError: no database (agent.py:31)",
        "2 of 2 calls since agent was started",
    ]
    assert "rooms.dispatch" not in finding.fix
    assert "agent.py:31" in finding.fix


def test_a_failed_call_after_which_another_was_answered_is_a_warning() -> None:
    events = (
        offered(90),
        raised(89.8),
        offered(60, "AJ_2"),
        worker_line("call ready", 59.7, level="INFO", call_id="AJ_2"),
    )
    (finding,) = diagnose(scene(workers=(HERE,), events=events))
    assert (finding.rule, finding.severity) == ("calls-failed", "warning")


def test_a_call_for_which_no_process_could_be_started_was_not_answered() -> None:
    events = (
        offered(90),
        raised(89.8),
        offered(60, "AJ_2"),
        worker_line("failed to acquire process for job after 3 attempts", 55, job_id="AJ_2"),
    )
    (finding,) = diagnose(scene(workers=(HERE,), events=events))
    assert (finding.rule, finding.severity) == ("calls-failed", "error")
    assert finding.sentence == "The last 2 calls of agent failed: no process could be started."


def test_calls_that_failed_before_the_worker_was_started_are_no_finding_unless_asked_for() -> None:
    events = (offered(1090), raised(1089.8))
    assert diagnose(scene(workers=(HERE,), events=events)) == ()
    (finding,) = diagnose(scene(workers=(HERE,), events=events, history=True))
    assert finding.rule == "calls-failed"


def test_what_is_raised_after_the_caller_has_left_is_no_failed_call() -> None:
    left = server_line("participant closing", 61, room="r", kind="STANDARD")
    assert diagnose(scene(workers=(HERE,), events=(offered(90), left, raised(60)))) == ()


def test_a_waiting_caller_gets_one_new_agent_and_no_other_once_the_same_error_came_twice() -> None:
    once = diagnose(scene(room(caller()), workers=(HERE,), events=(offered(59), raised(58))))
    assert [one.fix for one in once] == ["inv rooms.dispatch r"]
    twice = diagnose(
        scene(
            room(caller()),
            workers=(HERE,),
            events=(offered(59), raised(58), offered(30, "AJ_2"), raised(29, "AJ_2")),
        )
    )
    assert [one.rule for one in twice] == ["entrypoint-raised"]
    assert "rooms.dispatch" not in twice[0].fix
    assert "2 calls have failed in the same way" in twice[0].sentence


def test_code_that_has_been_changed_since_is_started_before_the_caller_gets_an_agent() -> None:
    changed = worker(code_folder="/project", release_current=False)
    found = diagnose(scene(room(caller()), workers=(changed,), events=(offered(59), raised(58))))
    assert found[0].fix == "inv start --only agent && inv rooms.dispatch r"


def test_changed_code_that_could_not_be_loaded_has_to_be_corrected_before_a_start_helps() -> None:
    trace = (
        'Traceback (most recent call last):\n  File "/project/agent.py", line 3\nSyntaxError: invalid syntax'
    )
    changed = worker(code_folder="/project", release_current=False)
    events = (
        worker_line("registered worker", 90, level="INFO"),
        offered(59),
        raised(58),
        worker_line("the entry can't be loaded", 39, exc_info=trace),
    )
    correct = "correct agent.py:3, then `inv start --only agent`"
    found = {one.rule: one for one in diagnose(scene(workers=(changed,), events=events))}
    assert [found[rule].fix for rule in ("calls-failed", "old-code")] == [correct, correct]
    assert found["calls-failed"].by_hand
    (here, *_) = diagnose(scene(room(caller()), workers=(changed,), events=events))
    assert (here.rule, here.fix, here.by_hand) == ("entrypoint-raised", correct, True)


def test_code_that_can_not_be_loaded_is_named_with_file_line_and_message() -> None:
    trace = (
        "Traceback (most recent call last):\n"
        '  File "<frozen importlib._bootstrap>", line 1204, in _gcd_import\n'
        '  File "/project/agent.py", line 3\n    def broken(\n              ^\n'
        "SyntaxError: '(' was never closed"
    )
    events = (
        worker_line(AGENT_STARTS, 40, level="INFO"),
        worker_line("the entry can't be loaded", 39, exc_info=trace),
    )
    (finding,) = diagnose(scene(room(caller()), workers=(GONE,), events=events))
    assert finding.rule == "agent-code"
    assert finding.sentence == (
        "The code of agent can't be loaded: SyntaxError: '(' was never closed (agent.py:3)."
    )
    assert finding.fixes[0].action == "start"


def test_only_the_last_run_of_a_worker_that_is_gone_says_why() -> None:
    trace = (
        'Traceback (most recent call last):\n  File "/project/agent.py", line 3, in <module>\nNameError: x'
    )
    events = (
        worker_line(AGENT_STARTS, 400, level="INFO"),
        worker_line("the entry can't be loaded", 399, exc_info=trace),
        worker_line(AGENT_STARTS, 40, level="INFO"),
        worker_line("registered worker", 39, level="INFO"),
    )
    (finding,) = diagnose(scene(workers=(GONE,), events=events))
    assert (finding.rule, finding.evidence) == ("no-worker", ("service agent is missing",))


def test_a_printed_traceback_of_a_program_that_never_logged_says_why() -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "/project/agent.py", line 2, in <module>',
        "KeyError: 'X'",
    )
    events = tuple(LogEvent(service="agent", at=NOW - 5, level="", message=line) for line in lines)
    (finding,) = diagnose(scene(workers=(GONE,), events=events))
    assert "KeyError: 'X' (agent.py:2)" in finding.sentence


def test_an_agent_of_another_name_is_the_cause_and_not_a_lost_dispatch() -> None:
    bob = worker(registered_name="bob")
    (finding,) = diagnose(scene(room(caller()), workers=(bob,)))
    assert (finding.rule, finding.by_hand) == ("other-agent-name", True)
    assert "registered as 'bob', the inventory declares ''" in finding.sentence
    assert diagnose(scene(room(caller(), agent()), workers=(worker(registered_name=""),))) == ()


def test_noise_and_lines_of_an_earlier_run_are_no_evidence_of_a_server_that_is_down() -> None:
    def error(message: str, ago_s: float) -> LogEvent:
        return LogEvent(service="livekit", at=NOW - ago_s, level="error", message=message)

    down = server(reachable=False, error="connection refused")
    noise = (
        error("could not bind: address already in use", 500),
        server_line("starting LiveKit server", 400),
        error("secret is too short, should be at least 32 characters for security", 400),
        error("publisher data channel closed unexpectedly", 300),
        error("Failed to accept data channel: failed to send ChannelOpen ACK: state=Closed", 300),
    )
    (finding,) = diagnose(scene(server=down, workers=(), events=noise))
    assert finding.evidence == ("GET ws://127.0.0.1:7880: connection refused",)
    (finding,) = diagnose(scene(server=down, workers=(), events=(*noise, error("out of files", 20))))
    assert without_time(finding.evidence)[-1] == "its log: out of files"


def test_a_worker_whose_folder_was_deleted_is_not_called_slow_or_frozen() -> None:
    mute = worker(state=ServiceState.UNRESPONSIVE, answers=False, registered=None, folder_deleted=True)
    (finding,) = diagnose(scene(workers=(mute,), host=HostFact(cpu_share=1.0)))
    assert (finding.rule, finding.severity) == ("state-folder-deleted", "warning")
    assert ".voiceops was deleted" in finding.sentence


def test_a_call_that_fails_now_does_not_bring_back_failures_that_were_answered_since() -> None:
    events = (
        offered(90),
        raised(89.8),
        offered(60, "AJ_2", "other"),
        offered(9, "AJ_3", "now"),
        worker_line("process exited with non-zero exit code -9", 8, job_id="AJ_3", room="now"),
    )
    here = room(caller(9), name="now", age_s=9)
    found = {one.rule: one.severity for one in diagnose(scene(here, workers=(HERE,), events=events))}
    assert found["calls-failed"] == "warning"
