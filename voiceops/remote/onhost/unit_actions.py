"""Start, await and end units, one request for each exec.

Waiting is done here, not over the network: a restart loop that is active half of the time is seen only by
who looks all the time.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import re
import signal
import time

from voiceops.remote.onhost.agents import (
    agent_health,
    close_gate,
    drain_note,
    health_socket,
    open_gate,
    told_to_drain,
)
from voiceops.remote.onhost.base import Cancel, Failed, run_child
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.entry import answers
from voiceops.remote.onhost.hold import HELD_S, hold, let_in
from voiceops.remote.onhost.journal_lines import LOG_BYTES, ended_run_lines, run_lines
from voiceops.remote.onhost.processes import process_variable, start_time
from voiceops.remote.onhost.unit_state import (
    WANTS,
    sync_journal,
    systemctl,
    unit_state,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.messages import UnitState
    from voiceops.remote.unit_messages import (
        EndAnswer,
        EndProcess,
        EndUnit,
        ReadyAnswer,
        StartUnit,
        UnitAnswer,
        WaitForUnit,
    )

DRAIN_BEGINS_S = 3.0
POLL_S = 0.02
LOOK_S = 0.5
"""The longest pause between two looks at a unit: each takes 15 ms of CPU, which an agent that starts needs itself."""
TAKEOVER_S = 10.0
TRANSIENT = "/run/systemd/transient"
"""Where units are written that ``systemd-run`` makes."""
RECONNECT_S = 0.7
"""What callers of a server that has ended get to come back, before its port is its own again."""
RUN_LOG_LINES = 200
"""Of a run that failed: enough for a whole traceback."""
PROCESS_EXIT = "98e322203f7a4ed290d09fe03c09fe15"
"""The id of systemd's message that a main process has ended (``SD_MESSAGE_UNIT_PROCESS_EXIT``)."""
MASKED = "its unit is masked (`systemctl unmask` takes that back)"


@answers("units.start")
def start_unit(request: StartUnit, channel: Channel) -> UnitAnswer:
    """Start a unit and return at once; an instance that is still there gets a twin beside it."""
    unit = request["unit"]
    number = 1
    while request["instance"] and busy(unit):
        number += 1
        twin = f"{request['instance']}.{number}"
        unit = request["unit"].replace(f"@{request['instance']}.service", f"@{twin}.service")
        for path in request["twins"]:
            link_beside(path, path.replace(request["instance"], twin))
    seen = unit_state(unit)
    close_gate(seen, request["proof_name"])
    if seen["sub"].startswith("auto-restart"):
        systemctl("stop", unit)  # nothing runs; a start would only wait for the restart
    # What leads callers elsewhere has the port of a livekit-server that has ended.
    for helper in glob.glob(f"{TRANSIENT}/{glob.escape(unit.rpartition('.')[0])}-takeover-*.service"):
        systemctl("kill", "--signal=USR1", os.path.basename(helper))
    systemctl("reset-failed", unit)
    systemctl("start", "--no-block", unit)
    return {"unit": unit_state(unit)}


def busy(unit: str) -> bool:
    return unit_state(unit)["active"] not in ("inactive", "failed")


def link_beside(target: str, path: str) -> None:
    """Make ``path`` a link to ``target`` beside it."""
    if not os.path.islink(path):
        os.symlink(os.path.basename(target), path)


@answers("units.wait")
def wait_for_unit(request: WaitForUnit, channel: Channel) -> ReadyAnswer:
    return await_unit(request)


def await_unit(request: WaitForUnit) -> ReadyAnswer:
    """Wait until the unit can do its job and has stayed so for ``settle_s``; else say why not, with the log's end.

    One that is called before callers reach it settles beside its call: its gate is opened once its process has been up
    for so long.
    """
    began = time.monotonic()
    ends_at = began + request["timeout_s"]
    seen = unit_state(request["unit"])
    to_open = request["gate"] == "open"
    settle_s = 0.0 if request["gate"] else request["settle_s"]
    first = seen["restarts"]
    settled: tuple[int, float] = (0, 0.0)
    missing = ""
    last_run = seen["invocation"]
    while True:
        failed = died(seen, first)
        if not failed and request["pid"] not in (0, seen["pid"]):
            how, last_run = last_ending(seen["unit"])
            failed = f"it ended and was restarted, {how}"
        if failed:
            run = last_run or last_ending(seen["unit"])[1]
            log = ended_run_lines(seen["unit"], run, RUN_LOG_LINES)
            return {"unit": seen, "ready": False, "died": True, "why": failed, "log": log}
        if to_open and seen["age_s"] >= request["settle_s"]:
            close_gate(seen, f"share {request['share']:.4f}" if request["share"] < 1 else "")
            to_open = False
        now = time.monotonic()
        missing = unready(seen, request)
        if missing or seen["pid"] != settled[0]:
            settled = (0 if missing else seen["pid"], now)
        settles_at = settled[1] + settle_s
        if not missing and now >= settles_at:
            if request["enable"] and request["gate"] != "closed" and request["share"] == 1:
                enable_only(request["unit"], request["enable"])
            return {"unit": observed_unit(seen), "ready": True}
        if now > ends_at:
            log = ended_run_lines(seen["unit"], last_run, RUN_LOG_LINES)
            return {"unit": seen, "ready": False, "died": False, "why": missing, "log": log}
        if missing:
            pause(seen, now - began, until=ends_at, flag="registered" if request["enable"] else "")
        else:
            pause(seen, now - began, until=settles_at)
        seen = unit_state(request["unit"])
        # Between two runs there is none, and the lines that tell why are those of the last one.
        last_run = seen["invocation"] or last_run


def pause(seen: UnitState, waited_s: float, *, until: float, flag: str = "") -> None:
    """Sleep until systemd is worth asking again: the longer it took so far, the longer.

    What can be seen without systemd is seen at once: the end of the main process, and the ``flag`` of an
    agent's health.
    """
    running = runs(seen["pid"])
    longest_s = min(LOOK_S, waited_s / 8) if running else 0.0
    ends_at = min(until, time.monotonic() + longest_s)
    while True:
        time.sleep(POLL_S)
        if time.monotonic() >= ends_at or runs(seen["pid"]) != running:
            return
        if flag and (agent_health(seen) or {}).get(flag):
            return


def runs(pid: int) -> bool:
    return pid > 0 and start_time(pid) > 0


def observed_unit(unit: UnitState) -> UnitState:
    unit["service"] = process_variable(unit["pid"], "VOICEOPS_SERVICE")
    unit["health"] = agent_health(unit)
    return unit


def died(unit: UnitState, first: int) -> str:
    """Why a start has failed, empty while it may still succeed."""
    if unit["active"] == "failed":
        return f"{unit['result']}, {ending_of(unit)}"
    if unit["sub"].startswith("auto-restart") or unit["restarts"] > first:
        return f"it ended and was restarted, {ending_of(unit)}"
    if unit["active"] == "inactive" and not unit["job"]:  # with a job it waits for its turn
        return (
            "it was stopped" if unit["loaded"] else MASKED if unit["masked"] else "the host has no such unit"
        )
    if unit["active"] == "deactivating":
        return f"it ended, {ending_of(unit)}" if unit["code"] else "it stops"
    return ""


def last_ending(name: str) -> tuple[str, str]:
    """How the last main process of a unit ended, and its run, as the journal has it: the unit tells of the one that runs now."""
    sync_journal()
    argv = ["journalctl", "--quiet", "--no-pager", "--output=json", "--lines=1"]
    argv += [f"UNIT={name}", f"MESSAGE_ID={PROCESS_EXIT}"]
    lines = run_child(argv, Cancel(), errors=False, limit=LOG_BYTES).output.splitlines()
    said = json.loads(lines[-1]) if lines else {}
    word = "exit" if said.get("EXIT_CODE") == "exited" else "signal"
    return f"{word} {said.get('EXIT_STATUS', 'unknown')}", str(said.get("INVOCATION_ID", ""))


def ending_of(unit: UnitState) -> str:
    """How the main process ended: CLD_EXITED is 1."""
    return f"exit {unit['status']}" if unit["code"] <= 1 else f"signal {unit['status']}"


def unready(unit: UnitState, request: WaitForUnit) -> str:
    """What is missing, empty when it is ready."""
    if unit["active"] != "active":
        return unit["text"] or f"systemd says {unit['sub']}"
    if request["log"] and not re.search(
        request["log"], "\n".join(run_lines(unit["invocation"], 10_000)), re.MULTILINE
    ):
        return f"no line of the log matches {request['log']!r}"
    if request["enable"]:
        # An agent stays active when it loses its server: systemd knows of its first registration only.
        said = agent_health(unit, server_back=bool(request["not_worker_id"]))
        if said is None:
            # Its loop is blocked: the one before it must not stop taking calls for it.
            return "does not answer its health check"
        if not said.get("registered"):
            return "not registered with LiveKit"
        if said.get("proving") and request["gate"] != "closed":
            return "waits for its proof call"
        if request["gate"] == "open" and said.get("share", 1.0) != request["share"]:
            return "not told yet which share of the calls it takes"
        if request["not_worker_id"] and said.get("worker_id") == request["not_worker_id"]:
            return "not registered again yet"
    return ""


def enable_only(unit: str, pattern: str) -> None:
    """Of the instances that the pattern names, make this the one that starts with the host.

    Which one does is read when the host boots: for a reload now, the one before would take calls for longer.
    """
    present = {os.path.basename(path) for path in glob.glob(f"{WANTS}/{pattern}")}
    if unit not in present:
        systemctl("enable", "--quiet", "--no-reload", unit)
    if present - {unit}:
        systemctl("disable", "--quiet", "--no-reload", *sorted(present - {unit}))


@answers("units.end")
def end_unit(request: EndUnit, channel: Channel) -> EndAnswer:
    """Stop a unit: one signal in its life, unless that was swallowed; then wait.

    ``again_s``: after that long a second one, which makes a livekit-server end although rooms are left.
    """
    name = request["unit"]
    seen = unit_state(name)
    if request["hand_over"]:
        return hand_over(seen, request)
    if seen["active"] == "failed":
        systemctl("reset-failed", name)  # it was to stop: it has not given up by itself
    if seen["active"] in ("inactive", "failed"):
        open_gate(seen)
        return {"gone": True}
    answered = os.path.exists(health_socket(seen))
    if seen["active"] != "deactivating":
        systemctl("stop", "--no-block", name)
    if request["kill"]:
        systemctl("kill", "--signal=KILL", name)
    began = time.monotonic()
    asked_again = False
    again_s = request["again_s"]
    while busy(name):
        waited_s = time.monotonic() - began
        if again_s and waited_s > again_s:
            again_s = 0.0
            systemctl("kill", "--signal=TERM", "--kill-who=main", name)
        if waited_s > DRAIN_BEGINS_S and not asked_again:
            asked_again = True
            said = agent_health(seen)
            if said and not said.get("draining"):
                systemctl("kill", "--signal=TERM", "--kill-who=main", name)
        if waited_s > request["timeout_s"]:
            return {"gone": False, "health": agent_health(seen)}
        if request["begin"]:
            said = agent_health(seen)
            if said and said.get("draining"):
                return {"gone": False, "health": said}
            if answered and not os.path.exists(health_socket(seen)):
                return {"gone": False, "health": None}  # it had nothing to wait for, and is about to end
        flag = "draining" if request["begin"] else ""
        pause(seen, waited_s, until=began + request["timeout_s"], flag=flag)
    open_gate(seen)
    if request["kill"]:
        systemctl("reset-failed", name)  # likewise: it is we who killed it
    return {"gone": True}


def hand_over(seen: UnitState, request: EndUnit) -> EndAnswer:
    """Have a livekit-server take no new rooms, wait until its last participant has left and it has ended, and start it again.

    The unit stays as it is meanwhile, so that systemd starts it again whatever becomes of the deployer.
    """
    name, pid = seen["unit"], seen["pid"]
    helper = f"{name.rpartition('.')[0]}-takeover-{pid}.service"
    if runs(pid) and request["takeover"]:
        argv = ["systemd-run", "--quiet", "--collect", "--service-type=notify", f"--unit={helper}"]
        argv += ["--property=NoNewPrivileges=yes", "--property=ProtectSystem=strict"]
        # One that an earlier deployer began is there already.
        run_child([*argv, "--", *request["takeover"], "--pid", str(pid)], Cancel(), timeout_s=TAKEOVER_S)
    if runs(pid) and not told_to_drain(seen):
        path = drain_note(seen)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(f"{path}.new", "w") as file:
            file.write(seen["invocation"])
        os.rename(f"{path}.new", path)
        systemctl("kill", "--signal=TERM", "--kill-who=main", name)
    ends_at = time.monotonic() + request["timeout_s"]
    while runs(pid):
        if time.monotonic() > ends_at:
            return {"gone": False}
        time.sleep(POLL_S)
    with open(f"{drain_note(seen)}.lock", "w") as lock:
        # A killed deployer's run goes on here, beside the next one's: of two starts the second would end what the first began.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if unit_state(name)["pid"] in (0, pid):
            start_again(name, helper, request)
    return {"gone": True}


def start_again(name: str, helper: str, request: EndUnit) -> None:
    """Start a livekit-server that has handed its calls over; new connections wait from when nobody leads them elsewhere."""
    led = busy(helper)
    if led:
        time.sleep(RECONNECT_S)
    with contextlib.suppress(Failed):  # without nft who comes now is refused
        hold(request["table"], request["ports"])
    if led:
        systemctl("kill", "--signal=USR1", helper)
    systemctl("stop", name)  # between two runs a start would only wait for the restart
    systemctl("start", "--no-block", name)
    ends_at = time.monotonic() + HELD_S
    while time.monotonic() < ends_at and unit_state(name)["active"] != "active":
        time.sleep(POLL_S)
    with contextlib.suppress(Failed):
        let_in(request["table"])


@answers("processes.end")
def end_process(request: EndProcess, channel: Channel) -> dict[str, object]:
    """Ask a foreign process to end, then kill it. A pid that names another process now is left alone."""
    pid = request["pid"]
    began = start_time(pid)
    if not began or str(began) != request["start"]:
        return {}
    os.kill(pid, signal.SIGTERM)
    ends_at = time.monotonic() + request["timeout_s"]
    while start_time(pid) == began and time.monotonic() < ends_at:
        time.sleep(POLL_S)
    if start_time(pid) == began:
        os.kill(pid, signal.SIGKILL)
    return {}
