"""Each cause of silence is named from facts alone, and a healthy stack gives no finding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.doctor.scenes import (
    NOW,
    agent,
    assigned,
    caller,
    room,
    scene,
    server,
    server_line,
    without_time,
    worker,
    worker_line,
)
from tests.unit.test_docs import parses
from voiceops.doctor.diagnose import diagnose
from voiceops.doctor.facts import (
    BrokenService,
    CertificateFact,
    ChangedService,
    FullDisk,
    HostFact,
    LogEvent,
    RoomFact,
    StackFacts,
)
from voiceops.model.rooms import Dispatch
from voiceops.model.states import ServiceState

NAMED = (worker(agent_name="front"),)


def dispatched(name: str) -> tuple[Dispatch, ...]:
    return (Dispatch(id="AD_1", room="r", agent_name=name, created_at=NOW - 60),)


def with_certificate(**changes: Any) -> StackFacts:
    shown = CertificateFact(service="caddy", domain="voice.example.com", **changes)
    return scene(host=HostFact(certificates=(shown,)))


CASES: dict[str, StackFacts] = {
    "server-down": scene(server=server(reachable=False, error="connection refused")),
    "stray-server": scene(
        server=server(state=ServiceState.STRAY, detail="port 7880 is taken by pid 7", credentials="refused")
    ),
    "server-not-ready": scene(server=server(status=406)),
    "wrong-key": scene(server=server(credentials="refused", credentials_detail="invalid API key")),
    "clock-skew": scene(server=server(clock_skew_s=-75.0)),
    "secret-too-short": scene(server=server(secret_bytes=12)),
    "expired-token": scene(
        events=(server_line("error handling request", status=401, path="/rtc", error="x: token is expired"),)
    ),
    "refused-token": scene(
        events=(
            server_line("error handling request", status=401, path="/rtc/v1", error="invalid API key: k"),
        )
    ),
    "no-worker": scene(
        room(caller()),
        workers=(worker(state=ServiceState.MISSING, registered=None, answers=False, pid=None),),
    ),
    "worker-frozen": scene(room(caller()), workers=(worker(stopped=True, answers=False, registered=None),)),
    "worker-wrong-key": scene(
        workers=(worker(registered=False),),
        events=(
            server_line("error handling request", status=401, path="/agent", error="invalid API key: x"),
        ),
    ),
    "worker-wrong-url": scene(workers=(worker(registered=False, url="ws://127.0.0.1:9999"),)),
    "worker-not-registered": scene(workers=(worker(registered=False),)),
    "port-taken": scene(
        workers=(worker(state=ServiceState.FAILED, registered=None, answers=False),),
        events=(worker_line("worker failed\nOSError: [Errno 98] address already in use"),),
    ),
    "stray-worker": scene(workers=(worker(state=ServiceState.STRAY, pids=(1, 2)),)),
    "duplicate-workers": scene(workers=(worker(state=ServiceState.DUPLICATE, pids=(1, 2)),)),
    "old-code": scene(workers=(worker(release_current=False),)),
    "worker-over-load": scene(
        room(caller()),
        events=(server_line("failed", 59, room="r", error="no servers available (received 1 responses)"),),
    ),
    "no-dispatch": scene(room(caller()), workers=NAMED),
    "wrong-agent-name": scene(room(caller(), dispatches=dispatched("frnt")), workers=NAMED),
    "provider-failed": scene(
        room(caller(), agent()),
        workers=(worker(rooms=("r",), calls=1),),
        events=tuple(
            worker_line(
                f"failed to synthesize speech: invalid API key, retrying in {wait_s}s",
                age_s,
                room="r",
                tts="livekit.plugins.openai.tts.TTS",
            )
            for wait_s, age_s in ((0.1, 3), (2.0, 2))
        ),
    ),
    "entrypoint-raised": scene(
        room(caller()),
        events=(
            assigned(),
            worker_line(
                "unhandled exception while running the job task\nTraceback\nValueError: no such customer",
                59,
                room="r",
                job_id="AJ_1",
            ),
        ),
    ),
    "entrypoint-exited": scene(
        room(caller()),
        events=(
            assigned(),
            worker_line("process exited with non-zero exit code 3", 59, room="r", job_id="AJ_1"),
        ),
    ),
    "entrypoint-hung": scene(room(caller()), events=(assigned(),), workers=(worker(rooms=("r",), calls=1),)),
    "slow-join": scene(
        room(caller(16), age_s=16),
        events=(assigned(15),),
        workers=(worker(load=0.5),),
        host=HostFact(cpu_share=0.97),
    ),
    "killed-in-call": scene(
        room(caller(), agent()),
        events=(
            assigned(),
            worker_line("process exited with non-zero exit code -9", 5, room="r", job_id="AJ_1"),
        ),
    ),
    "inert-agent": scene(
        room(caller(5), agent()),
        events=(
            assigned(),
            worker_line(
                "closing agent session due to participant disconnect",
                8,
                level="INFO",
                room="r",
                job_id="AJ_1",
            ),
        ),
        workers=(worker(rooms=("r",), calls=1),),
    ),
    "dispatch-lost": scene(
        room(caller(), dispatches=dispatched("")), workers=(worker(registered_at=NOW - 30),)
    ),
    "duplicate-agents": scene(
        room(caller(), agent(50), agent(40, job="AJ_2")), workers=(worker(rooms=("r",), calls=2),)
    ),
    "never-joined": scene(
        room(agent(61), agent(61, job="AJ_2"), age_s=62), events=(assigned(),), workers=(worker(),)
    ),
    "silent-agent": scene(
        room(caller(), agent(state="")), events=(assigned(),), workers=(worker(rooms=("r",), calls=1),)
    ),
    "orphan-room": scene(room(age_s=300, dispatches=None, dispatch_error="503 no response from servers")),
    "service-down": scene(
        host=HostFact(
            broken_services=(
                BrokenService(
                    name="postgres",
                    state=ServiceState.STALE,
                    detail="pid 7 is gone",
                    needed_by=("agent",),
                    log=("PANIC: No space left on device",),
                ),
            )
        )
    ),
    "refused-password": scene(
        host=HostFact(
            broken_services=(
                BrokenService(
                    name="postgres", state=ServiceState.UNRESPONSIVE, detail="exits 2", refused=True
                ),
            )
        )
    ),
    "old-configuration": scene(host=HostFact(changed_services=(ChangedService(name="letta"),))),
    "calls-without-data": scene(
        events=(
            worker_line("call failed", phase="load", fallback=True, error="LettaError('Letta answers 401')"),
        )
    ),
    "monitor-dead": scene(host=HostFact(dead_monitors=("monitor",))),
    "disk-full": scene(host=HostFact(disk_free_bytes=1000)),
    "certificate-missing": with_certificate(error="no certificate for voice.example.com"),
    "certificate-not-renewed": with_certificate(not_before=NOW - 9.1 * 3600, not_after=NOW + 2.9 * 3600),
    "certificate-expired": with_certificate(not_before=NOW - 90 * 86_400, not_after=NOW - 60),
}


def test_a_certificate_is_left_to_caddy_while_it_may_still_be_renewed_in_time() -> None:
    for days, left in ((90, 23), (90, 89), (0.5, 0.14)):
        facts = with_certificate(not_before=NOW - (days - left) * 86_400, not_after=NOW + left * 86_400)
        assert diagnose(facts) == (), (days, left)


@pytest.mark.parametrize("rule", CASES)
def test_the_cause_is_named_first_with_evidence_and_a_fix(rule: str) -> None:
    findings = diagnose(CASES[rule])
    assert [finding.rule for finding in findings][:1] == [rule]
    assert findings[0].evidence
    assert findings[0].fix
    assert findings[0].sentence.endswith(".")


@pytest.mark.parametrize(
    "facts",
    [
        scene(),
        scene(room(caller(0.2), age_s=0.3)),
        scene(room(caller(3), age_s=3), events=(assigned(2.8),)),
        scene(room(caller(), agent()), events=(assigned(),), workers=(worker(rooms=("r",), calls=1),)),
        scene(room(caller(), agent(), dispatches=None, dispatch_error="503")),
        scene(
            room(caller(), agent()),
            events=(worker_line("failed to synthesize speech: timeout, retrying in 0.1s", 3, room="r"),),
            workers=(worker(rooms=("r",), calls=1),),
        ),
        scene(room(agent())),
        scene(room(age_s=400)),
        scene(
            room(caller(), agent()),
            workers=(
                worker(started_at=NOW - 20),
                worker(draining=True, state=ServiceState.DRAINING, rooms=("r",)),
            ),
        ),
    ],
    ids=[
        "nobody calls",
        "a caller came just now",
        "a job was assigned just now",
        "an agent serves",
        "served though dispatches can't be listed",
        "a request to a provider had to be repeated once",
        "agent alone",
        "empty room",
        "served by the old worker during an overlap",
    ],
)
def test_a_healthy_stack_gives_no_finding(facts: StackFacts) -> None:
    assert diagnose(facts) == ()


@pytest.mark.parametrize(
    ("fields", "rule"), [({}, "entrypoint-raised"), ({"timed_out": True}, "entrypoint-hung")]
)
def test_a_failure_that_agentkit_caught_is_named_with_its_phase(fields: dict[str, Any], rule: str) -> None:
    line = worker_line(
        "call failed",
        59,
        phase="session",
        error="ValueError: no voice",
        call_id="AJ_1",
        pii={"room": "r"},
        **fields,
    )
    (finding,) = diagnose(scene(room(caller()), events=(assigned(), line)))
    assert finding.rule == rule
    assert without_time(finding.evidence) == [
        "worker log: call failed in phase session: ValueError: no voice"
    ]


@pytest.mark.parametrize(
    ("room_fact", "rule"),
    [(room(caller()), "entrypoint-exited"), (room(caller(), agent()), "killed-in-call")],
)
def test_what_a_process_printed_before_it_ended_is_part_of_the_evidence(
    room_fact: RoomFact, rule: str
) -> None:
    def printed(line: str, ago_s: float, service: str = "agent") -> LogEvent:
        return LogEvent(service=service, at=NOW - ago_s, level="", message=line)

    ended = worker_line("process exited with non-zero exit code 1", 58, room="r", job_id="AJ_1")
    events = (
        printed("of a call before this one", 300),
        assigned(),
        printed("Error processing file: No such file", 59),
        worker_line("initializing process", 58.5),
        printed("of the server", 58.2, service="livekit"),
        printed("giving up", 58),
        ended,
        printed("of a call after this one", 20),
    )
    (finding,) = diagnose(scene(room_fact, events=events))
    assert finding.rule == rule
    assert without_time(finding.evidence) == [
        "worker log: process exited with non-zero exit code 1",
        "worker output: Error processing file: No such file",
        "worker output: giving up",
    ]


def test_a_mute_agent_is_named_with_its_provider_and_reason() -> None:
    (finding,) = diagnose(CASES["provider-failed"])
    assert "TTS (openai.tts.TTS)" in finding.sentence
    assert without_time(finding.evidence) == [
        "worker log: failed to synthesize speech: invalid API key, 2 times in 30 s"
    ]


def test_a_room_name_with_shell_characters_is_quoted_in_the_fix() -> None:
    name = "r $(reboot) 'x'\n"
    facts = scene(
        room(caller(), name=name, dispatches=dispatched("")), workers=(worker(registered_at=NOW - 30),)
    )
    (finding,) = diagnose(facts)
    assert finding.fix == "inv rooms.dispatch $'r $(reboot) \\'x\\'\\x0a'"


def test_a_token_never_stands_in_the_evidence() -> None:
    facts = scene(
        events=(
            server_line(
                "error handling request",
                status=401,
                path="/rtc",
                error="invalid token: eyJh.eyJi.c2ln, error: token has invalid claims: token is expired",
            ),
        )
    )
    assert "eyJ" not in str(diagnose(facts))


@pytest.mark.parametrize("rule", CASES)
def test_each_fix_that_is_a_command_is_one_that_inv_knows(rule: str) -> None:
    for finding in diagnose(CASES[rule]):
        for fix in finding.fixes:
            for command in fix.command.split(" && "):
                if command.startswith("inv "):
                    assert parses(command.split("  #")[0]) == ""


def test_lines_of_a_log_are_joined_to_their_room_once() -> None:
    lines = tuple(server_line("participant active", 5, room=f"r{number}") for number in range(100))
    facts = scene(events=lines)
    assert facts.events_by_room["r7"] == [lines[7]]
    assert facts.services_with_log == {"livekit"}


@pytest.mark.parametrize(
    ("changed", "sentence", "fix"),
    [
        (
            (),
            "postgres refuses the password of the inventory, though it was started with it: somebody has changed it in "
            "the service itself.",
            "inv restart --only postgres",
        ),
        (
            (ChangedService(name="postgres"), ChangedService(name="letta", variables=("LETTA_PG_URI",))),
            "postgres refuses the password of the inventory, which was changed since it was started: it runs on "
            "with the old one, as letta may.",
            "inv start --only postgres",
        ),
        (
            (
                ChangedService(name="postgres", undeployed=True),
                ChangedService(name="letta", variables=("LETTA_PG_URI",), undeployed=True),
            ),
            "postgres refuses the password of the inventory, which was changed since it was deployed: it runs on "
            "with the old one, as letta may.",
            "inv deploy",
        ),
    ],
)
def test_a_refused_password_tells_whether_the_inventory_or_the_service_was_changed(
    changed: tuple[ChangedService, ...], sentence: str, fix: str
) -> None:
    broken = BrokenService(
        name="postgres",
        state=ServiceState.UNRESPONSIVE,
        needed_by=("letta",) if changed else (),
        refused=True,
    )
    found = diagnose(scene(host=HostFact(broken_services=(broken,), changed_services=changed)))
    assert (found[0].sentence, found[0].fix) == (sentence, fix)
    assert [one.rule for one in found] == ["refused-password", *(["old-configuration"] if changed else [])]
    if changed:
        assert (
            "letta runs with an older configuration than the inventory has: LETTA_PG_URI" in found[1].sentence
        )


def test_a_full_disk_is_a_persons_work_where_data_are_and_no_error_where_only_logs_are() -> None:
    full = (
        FullDisk(folder="/d", data=("postgres", "redis"), free_bytes=0),
        FullDisk(folder="/l", logs=("livekit", "agent", "web"), free_bytes=0),
    )
    data, logs = diagnose(scene(host=HostFact(full_disks=full, disk_free_bytes=0)))
    assert (
        data.sentence == "The disk of the data of postgres and redis is full: postgres and redis can't write."
    )
    assert logs.sentence == "The disk of the project is full: what livekit, agent and web log is lost."
    assert (data.severity, data.by_hand, logs.severity, logs.by_hand) == ("error", True, "warning", False)


def test_data_that_loaded_since_end_the_finding_of_calls_without_data() -> None:
    failed = worker_line(
        "call failed", 20, phase="load", fallback=True, error="LettaError('Letta answers 401')"
    )
    (found,) = diagnose(scene(events=(failed,)))
    assert (
        found.sentence
        == "The last call of agent had to do without its data: LettaError('Letta answers 401')."
    )
    assert not diagnose(scene(events=(failed, worker_line("call data loaded", 10, fallback=False))))
    assert not diagnose(scene(events=(worker_line("call failed", 400, phase="load", fallback=True),)))


def test_a_program_that_has_livekits_port_and_does_not_answer_is_the_only_cause() -> None:
    foreign = server(reachable=False, state=ServiceState.STRAY, foreign_owner="another program")
    (found,) = diagnose(scene(server=foreign))
    assert (found.rule, found.by_hand) == ("stray-server", True)


def test_a_frozen_service_is_named_as_frozen() -> None:
    frozen = BrokenService(
        name="postgres", state=ServiceState.UNRESPONSIVE, needed_by=("letta",), stopped=True
    )
    (found,) = diagnose(scene(host=HostFact(broken_services=(frozen,))))
    assert found.sentence == "postgres is frozen (its process is stopped, state T): letta can't use it."
    assert found.fix == "inv restart --only postgres"


def test_a_service_that_does_not_answer_is_restarted_and_a_port_of_others_is_for_a_person() -> None:
    broken = {
        "postgres": BrokenService(
            name="postgres", state=ServiceState.UNRESPONSIVE, detail="password authentication failed"
        ),
        "redis": BrokenService(name="redis", state=ServiceState.STRAY, foreign_owner="another program"),
    }
    found = diagnose(scene(host=HostFact(broken_services=tuple(broken.values()))))
    mute, taken = (next(one for one in found if one.service == name) for name in broken)
    assert mute.fix == "inv restart --only postgres"
    assert "password authentication failed" in mute.evidence[0]
    assert (mute.severity, mute.by_hand, taken.by_hand) == ("error", False, True)
    assert "belongs to another program" in taken.sentence


@pytest.mark.parametrize(
    ("changes", "sentence", "fix", "by_hand"),
    [
        (
            {"state": ServiceState.FAILED, "detail": "exit 3 after 0.1 s", "run_again": False},
            "migrate has failed, exit 3 after 0.1 s: api can't start without it.",
            "correct what its log shows, then `inv start --only migrate`",
            True,
        ),
        (
            {"state": ServiceState.FAILED, "needed_by": ()},
            "migrate has failed.",
            "inv start --only migrate",
            False,
        ),
        (
            {"state": ServiceState.UNRESPONSIVE, "detail": "has run for 70 s", "run_again": False},
            "migrate has not completed, has run for 70 s: api can't start without it.",
            "correct what its log shows, then `inv restart --only migrate`",
            True,
        ),
    ],
)
def test_a_one_shot_that_has_not_completed_is_run_again_only_where_that_is_declared(
    changes: dict[str, Any], sentence: str, fix: str, by_hand: bool
) -> None:
    broken = replace(
        BrokenService(name="migrate", state=ServiceState.MISSING, needed_by=("api",), oneshot=True), **changes
    )
    found = diagnose(scene(host=HostFact(broken_services=(broken,))))
    (one,) = (each for each in found if each.service == "migrate")
    assert (one.sentence, one.fix, one.by_hand, one.repairable) == (sentence, fix, by_hand, not by_hand)
