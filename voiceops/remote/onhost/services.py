"""Runs on a host as ``python3 -ISc THIS REQUEST``: looks at units and acts on them, one request for each exec.

Standard library only, Python 3.9; as root. REQUEST and the answer are JSON. Waiting is done here, not over
the network: a restart loop that is active half of the time is seen only by who looks all the time.
"""

from __future__ import annotations

import glob
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Unit = dict[str, Any]

PROPERTIES = (
    "Id,Type,LoadState,Job,ActiveState,SubState,MainPID,NRestarts,Result,ExecMainCode,ExecMainStatus,Environment,"
    "UnitFileState,StatusText,InvocationID,ExecMainStartTimestampMonotonic,EnvironmentFiles,CPUUsageNSec,MemoryCurrent"
)
MODES = {"start", "dev", "connect", "console"}
"""Of livekit-agents' command line."""
DRAIN_BEGINS_S = 3.0
ANSWER_S = 2.0
"""For a whole answer of an agent, however slowly it drips."""
ANSWER_BYTES = 1_000_000
"""Of an answer, and of what a process says of itself: its command line, its variables."""
LOG_BYTES = 4_000_000
"""Of the journal, the newest."""
NOISE = re.compile(r"\S+: (Killing process \d+ \(.*\) with signal|Consumed .* CPU time)")
"""What systemd says of each process that is left: a dozen of such lines would hide the cause of a death."""
POLL_S = 0.05
LOG_LINES = 200
"""Of a run that failed: enough for a whole traceback."""
MASKED = "its unit is masked (`systemctl unmask` takes that back)"


def systemctl(*arguments: str) -> str:
    ended = subprocess.run(["systemctl", *arguments], capture_output=True, timeout=60, check=False)
    return ended.stdout.decode(errors="replace")


def units(*patterns: str, shown: list[dict[str, str]] | None = None) -> list[Unit]:
    """The loaded units of these names or patterns; ``shown``: as somebody has asked already."""
    if shown is None:
        text = systemctl("show", "--property=" + PROPERTIES, *patterns)
        shown = [
            dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")
        ]
    # One that matches two names is shown twice.
    return list({block["Id"]: _typed(block) for block in shown if block.get("Id")}.values())


def counter(text: str | None) -> int | None:
    """A number that systemd keeps; None for ``[not set]``, which older ones write as 2**64-1."""
    number = int(text) if text and text.isdigit() else -1
    return number if 0 <= number < 2**63 else None


def _typed(block: dict[str, str]) -> Unit:
    started_us = int(block.get("ExecMainStartTimestampMonotonic") or 0)
    pid = int(block.get("MainPID") or 0)
    return {
        "unit": block["Id"],
        "type": block.get("Type", ""),
        "loaded": block.get("LoadState", "") == "loaded",
        "masked": block.get("LoadState", "") == "masked",
        "job": int(block.get("Job") or 0),
        "active": block.get("ActiveState", ""),
        "sub": block.get("SubState", ""),
        "pid": pid,
        "restarts": int(block.get("NRestarts") or 0),
        "cpu_ns": counter(block.get("CPUUsageNSec")),
        "memory_bytes": counter(block.get("MemoryCurrent")),
        "result": block.get("Result", ""),
        "code": int(block.get("ExecMainCode") or 0),
        "status": int(block.get("ExecMainStatus") or 0),
        "environment": block.get("Environment", ""),
        "files": re.findall(r"(/.*?) \(ignore_errors=", block.get("EnvironmentFiles", "")),
        "enabled": block.get("UnitFileState", ""),
        "text": block.get("StatusText", ""),
        "invocation": block.get("InvocationID", ""),
        "age_s": time.monotonic() - started_us / 1e6 if pid and started_us else 0.0,
    }


def variable(pid: int, name: str) -> str:
    """One variable of a running process: what it was started with, whatever the files say today."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for assignment in file.read(ANSWER_BYTES).split(b"\0"):
                if assignment.startswith(name.encode() + b"="):
                    return assignment.partition(b"=")[2].decode(errors="replace")
    except OSError:
        return ""
    return ""


def noted(unit: Unit, name: str) -> str:
    """A variable of a process that wrote its title over its environment, as Redis and PostgreSQL do.

    It stands in the unit's environment files; they count if the process is younger than they are.
    """
    started = time.time() - unit["age_s"]
    for path in unit["files"]:
        try:
            with open(path) as file:
                if os.fstat(file.fileno()).st_ctime > started:
                    return ""
                found = re.search("^" + name + '="?([^"\n]*)', file.read(), re.MULTILINE)
        except (OSError, ValueError):
            continue
        if found:
            return found.group(1)
    return ""


def health(unit: Unit) -> Any:
    """agentkit's answer, or None: whoever answers may be hostile, so time, size and place are fixed.

    The place follows from the unit's own names, which are root's. The last step of it is the service's, and
    no link there is followed.
    """
    mark = re.search(r"(?:^|\s)VOICEOPS_UNIT=([^/\s]+)/(\S+)", unit["environment"])
    if not mark or not is_instance(unit):
        return None
    which = unit["unit"].partition("@")[2].rpartition(".service")[0]
    descriptor = -1
    try:
        descriptor = os.open(f"/run/{mark[1]}/{mark[2]}-{which}/health", os.O_PATH | os.O_NOFOLLOW)
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        with socket.socket(socket.AF_UNIX) as connection:
            place = f"/proc/self/fd/{descriptor}"
            said = answer(connection, place, "/health", time.monotonic() + ANSWER_S) or {}
            kinds = {"calls": int, "rooms": list, "worker_id": str, "registered": bool, "draining": bool}
            return (
                said
                if said and all(isinstance(said.get(name, kind()), kind) for name, kind in kinds.items())
                else None
            )
    except OSError:
        return None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def is_instance(unit: Unit) -> bool:
    """Whether it is an agent's: only their units are instances of a template."""
    return "@" in unit["unit"]


def answer(connection: socket.socket, address: Any, path: str, ends_at: float) -> Any:
    """The JSON object that ``GET path`` brings, or None unless all of it comes in time and within bounds."""
    data = b""
    try:
        connection.settimeout(max(0.001, ends_at - time.monotonic()))
        connection.connect(address)
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        while len(data) <= ANSWER_BYTES:
            connection.settimeout(max(0.001, ends_at - time.monotonic()))
            piece = connection.recv(65536)
            if not piece:
                # Older Pythons take minutes for a number of a million digits.
                found = json.loads(data.partition(b"\r\n\r\n")[2], parse_int=lambda text: int(text[:18]))
                return found if isinstance(found, dict) else None
            data += piece
    except (OSError, ValueError, RecursionError):
        pass  # no answer that makes sense: as good as none
    return None


def healths(asked: list[Unit]) -> None:
    """Add ``health`` to the units, asked all at once: one that does not answer must not use up the others' time."""

    def ask(unit: Unit) -> None:
        unit["health"] = health(unit)

    threads = [threading.Thread(target=ask, args=(unit,)) for unit in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def journal(invocation: str, count: int = 15) -> list[str]:
    """The last lines of one run of a unit."""
    if not invocation:
        return []
    # What a unit wrote right before it died may still be on its way to the journal.
    subprocess.run(["journalctl", "--sync"], capture_output=True, timeout=30, check=False)
    match = [f"_SYSTEMD_INVOCATION_ID={invocation}", "+", f"INVOCATION_ID={invocation}"]
    argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={count + 200}", *match]
    kept = b""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as shown:
        assert shown.stdout is not None
        while True:
            piece = shown.stdout.read(1 << 16)
            if not piece:
                break
            kept = (kept + piece)[-LOG_BYTES:]
    lines = kept.decode(errors="replace").splitlines()
    return [line for line in lines if not NOISE.match(line)][-count:]


# -- requests --------------------------------------------------------------


def look(request: dict[str, Any]) -> dict[str, Any]:
    """All units of the pattern, who owns the ports, and agents that somebody started by hand."""
    found = units(*request["patterns"], shown=request.get("shown"))
    for unit in found:
        if unit["pid"]:
            unit["service"] = variable(unit["pid"], "VOICEOPS_SERVICE") or noted(unit, "VOICEOPS_SERVICE")
    healths([unit for unit in found if unit["pid"] and is_instance(unit)])
    strays = workers_by_hand(request) if request["entries"] else []
    return {"units": found, "owners": owners(request["ports"]), "workers": strays}


def workers_by_hand(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Workers with one of our entries for our LiveKit, that no unit of voiceops runs."""
    found = {}
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as raw:
                line = raw.read(ANSWER_BYTES).decode(errors="replace")
            argv = line.split("\0")
            if not os.path.basename(argv[0]).startswith("python") or MODES.isdisjoint(argv):
                continue
            # Units pass their mark on; an environment file that somebody sourced does not have it.
            if variable(pid, "VOICEOPS_UNIT"):
                continue
            named = [word for word in argv[1:] if os.path.basename(word) in request["entries"]]
            path = os.path.realpath(os.path.join(os.readlink(f"/proc/{pid}/cwd"), named[0])) if named else ""
            given = re.search(r"\0--url[=\0]([^\0]*)", line)
            url = given.group(1) if given else variable(pid, "LIVEKIT_URL")
            ours = url.rstrip("/") == request["url"] if url else path.startswith(request["opt"] + "/")
            if named and ours:
                found[pid] = dict(process(pid), entry=os.path.basename(path), parent=parent(pid))
        except OSError:
            continue  # it has ended meanwhile
    tops = [one for one in found.values() if one["parent"] not in found]
    ends_at = time.monotonic() + ANSWER_S
    return [dict(one, calls=jobs(one["pid"], ends_at)) for one in tops]


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def jobs(pid: int, ends_at: float) -> int | None:
    """``active_jobs`` of a livekit-agents worker: left out at 0, a float otherwise; None: it does not answer."""
    for port, owner in listeners(None):
        if owner == pid and time.monotonic() < ends_at:
            with socket.socket() as connection:
                found = answer(connection, ("127.0.0.1", port), "/worker", ends_at)
            active = found.get("active_jobs", 0) if found else None
            if isinstance(active, (int, float)) and 0 <= active < 1e6:
                return int(active)
    return None


def owners(ports: list[int]) -> list[dict[str, Any]]:
    """Who listens on these TCP ports, with the unit that it belongs to."""
    found = []
    for port, pid in listeners(ports):
        try:
            found.append(dict(process(pid), port=port))
        except OSError:
            continue
    return found


def listeners(ports: list[int] | None) -> list[tuple[int, int]]:
    """(port, pid) of TCP ports that are listened on; None: of all."""
    inodes: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            with open(table) as file:
                for line in file.read().splitlines()[1:]:
                    fields = line.split()
                    port = int(fields[1].rpartition(":")[2], 16)
                    if fields[3] == "0A" and (ports is None or port in ports):
                        inodes[fields[9]] = port
    found = set()
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()] if inodes else []:
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    found.add((inodes[target[8:-1]], pid))
        except OSError:
            continue
    return sorted(found)


def process(pid: int) -> dict[str, Any]:
    """What a process is, and since when."""
    with open(f"/proc/{pid}/cgroup") as file:
        groups = file.read()
    with open(f"/proc/{pid}/cmdline", "rb") as raw:
        command = raw.read(ANSWER_BYTES).replace(b"\0", b" ").decode(errors="replace").strip()
    unit = re.search(r"/([^/\n]+\.service)", groups)
    return {
        "pid": pid,
        "start": start_time(pid),
        "unit": unit.group(1) if unit else "",
        "command": command,
        "age_s": age(pid),
    }


def start_time(pid: int) -> int:
    """In clock ticks since boot: with the pid it names a process for good. 0: it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def age(pid: int) -> float:
    with open("/proc/uptime") as file:
        return float(file.read().split()[0]) - start_time(pid) / os.sysconf("SC_CLK_TCK")


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Start a unit and return at once; an instance that is still there gets a twin beside it."""
    unit = request["unit"]
    number = 1
    while request["instance"] and busy(unit):
        number += 1
        twin = f"{request['instance']}.{number}"
        unit = request["unit"].replace(f"@{request['instance']}.service", f"@{twin}.service")
        for path in request["twins"]:
            link(path, path.replace(request["instance"], twin))
    if units(unit)[0]["sub"].startswith("auto-restart"):
        systemctl("stop", unit)  # nothing runs; a start would only wait for the restart
    systemctl("reset-failed", unit)
    systemctl("start", "--no-block", unit)
    return {"unit": units(unit)[0]}


def busy(unit: str) -> bool:
    return units(unit)[0]["active"] not in ("inactive", "failed")


def link(target: str, path: str) -> None:
    """Make ``path`` a link to its neighbour ``target``."""
    if not os.path.islink(path):
        os.symlink(os.path.basename(target), path)


def wait(request: dict[str, Any]) -> dict[str, Any]:
    """Wait until the unit can do its job and has stayed so; else say why not, with the log's end."""
    ends_at = time.monotonic() + request["timeout_s"]
    seen = units(request["unit"])[0]
    first = seen["restarts"]
    settled: tuple[int, float] = (0, 0.0)
    missing = ""
    last_run = seen["invocation"]
    while True:
        failed = died(seen, first)
        if failed:
            log = journal(last_run, LOG_LINES)
            return {"unit": seen, "ready": False, "died": True, "why": failed, "log": log}
        now = time.monotonic()
        missing = unready(seen, request)
        if missing or seen["pid"] != settled[0]:
            settled = (0 if missing else seen["pid"], now)
        elif now - settled[1] >= request["settle_s"]:
            if request["enable"]:
                enable(request["unit"], request["enable"])
            return {"unit": look_at(seen), "ready": True}
        if now > ends_at:
            log = journal(last_run, LOG_LINES)
            return {"unit": seen, "ready": False, "died": False, "why": missing, "log": log}
        time.sleep(POLL_S)
        seen = units(request["unit"])[0]
        # Between two runs there is none, and the lines that tell why are those of the last one.
        last_run = seen["invocation"] or last_run


def look_at(unit: Unit) -> Unit:
    unit["service"] = variable(unit["pid"], "VOICEOPS_SERVICE")
    unit["health"] = health(unit)
    return unit


def died(unit: Unit, first: int) -> str:
    """Why a start has failed, empty while it may still succeed."""
    if unit["active"] == "failed":
        return f"{unit['result']}, {ending(unit)}"
    if unit["sub"].startswith("auto-restart") or unit["restarts"] > first:
        return f"it ended and was restarted, {ending(unit)}"
    if unit["active"] == "inactive" and not unit["job"]:  # with a job it waits for its turn
        return (
            "it was stopped" if unit["loaded"] else MASKED if unit["masked"] else "the host has no such unit"
        )
    if unit["active"] == "deactivating":
        return f"it ended, {ending(unit)}" if unit["code"] else "it stops"
    return ""


def ending(unit: Unit) -> str:
    """How the main process ended: CLD_EXITED is 1."""
    return f"exit {unit['status']}" if unit["code"] <= 1 else f"signal {unit['status']}"


def unready(unit: Unit, request: dict[str, Any]) -> str:
    """What is missing, empty when it is ready."""
    if unit["active"] != "active":
        return unit["text"] or f"systemd says {unit['sub']}"
    if request["log"] and not re.search(
        request["log"], "\n".join(journal(unit["invocation"], 10_000)), re.MULTILINE
    ):
        return f"no line of the log matches {request['log']!r}"
    if request["enable"]:
        # An agent stays active when it loses its server: systemd knows of its first registration only.
        said = health(unit)
        if said is None:
            # Its loop is blocked: the one before it must not stop taking calls for it.
            return "does not answer its health check"
        if not said.get("registered"):
            return "not registered with LiveKit"
        if request["not_worker_id"] and said.get("worker_id") == request["not_worker_id"]:
            return "not registered again yet"
    return ""


def enable(unit: str, pattern: str) -> None:
    """Of the instances that the pattern names, make this the one that starts with the host."""
    present = {os.path.basename(path) for path in glob.glob(f"/etc/systemd/system/*.wants/{pattern}")}
    if unit not in present:
        systemctl("enable", "--quiet", unit)
    if present - {unit}:
        systemctl("disable", "--quiet", *sorted(present - {unit}))


def end(request: dict[str, Any]) -> dict[str, Any]:
    """Stop a unit: one signal in its life, unless that was swallowed; then wait.

    ``again_s``: after that long a second one, which makes a livekit-server end although rooms are left.
    """
    name = request["unit"]
    seen = units(name)[0]
    if seen["active"] in ("inactive", "failed"):
        return {"gone": True}
    if seen["active"] != "deactivating":
        systemctl("stop", "--no-block", name)
    if request["kill"]:
        systemctl("kill", "--signal=KILL", name)
    began = time.monotonic()
    asked_again = False
    again_s = request.get("again_s", 0.0)
    while busy(name):
        waited_s = time.monotonic() - began
        if again_s and waited_s > again_s:
            again_s = 0.0
            systemctl("kill", "--signal=TERM", "--kill-who=main", name)
        if waited_s > DRAIN_BEGINS_S and not asked_again:
            asked_again = True
            said = health(seen)
            if said and not said.get("draining"):
                systemctl("kill", "--signal=TERM", "--kill-who=main", name)
        if waited_s > request["timeout_s"]:
            return {"gone": False, "health": health(seen)}
        if request.get("begin"):
            said = health(seen)
            if said and said.get("draining"):
                return {"gone": False, "health": said}
        time.sleep(POLL_S)
    return {"gone": True}


def end_stray(request: dict[str, Any]) -> dict[str, Any]:
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


REQUESTS = {"look": look, "start": start, "wait": wait, "end": end, "end_stray": end_stray}

if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    # On a line of its own: shells print things before it.
    print("\n" + json.dumps(REQUESTS[asked.pop("do")](asked)))
