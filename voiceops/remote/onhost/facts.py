"""Runs on a host behind ``onhost.py``: what ``why`` wants to know of it, in one exec.

Standard library only, Python 3.9; as root. The answer is compressed: logs repeat themselves.
"""

from __future__ import annotations

import base64
import collections
import json
import os
import subprocess
import sys
import time
import zlib
from typing import Any

LOG_BYTES = 4_000_000
"""Of the newest lines; an answer has its bounds."""
LINE_CHARACTERS = 8_000


def facts(request: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """``seen`` and what the doctor adds: the state of processes, logs, the machine, what was deployed."""
    began = cpu_times()
    for unit in seen["units"]:
        if unit["pid"]:
            unit["url"] = variable(unit["pid"], "LIVEKIT_URL")
            unit["stopped"] = state_of(unit["pid"]) in ("T", "t")
    return dict(
        seen,
        now=time.time(),
        lines=log_lines(request["units"], time.time() - request["window_s"]),
        current=deployed(request["state"]),
        machine=machine(request["state"], began),
    )


def variable(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            found = dict(one.partition(b"=")[::2] for one in file.read(1 << 20).split(b"\0"))
            return found.get(name.encode(), b"").decode(errors="replace")
    except OSError:
        return ""


def state_of(pid: int) -> str:
    """One letter, as ps prints it: T is stopped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def log_lines(units: list[str], since: float) -> list[list[Any]]:
    """[seconds, unit, text], oldest first."""
    # What was written a moment ago may still be on its way.
    subprocess.run(["journalctl", "--sync"], stderr=subprocess.DEVNULL, timeout=10, check=False)
    argv = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--since=@{since:.6f}"]
    argv += ["--output-fields=MESSAGE,_SYSTEMD_UNIT", *(f"--unit={unit}" for unit in units)]
    kept: collections.deque[list[Any]] = collections.deque()
    size = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as journal:
        assert journal.stdout is not None
        for line in journal.stdout:
            entry = json.loads(line)
            text = entry.get("MESSAGE") or ""
            if isinstance(text, list):  # bytes that are no text
                text = bytes(text).decode(errors="replace")
            text = text[:LINE_CHARACTERS]
            kept.append([int(entry["__REALTIME_TIMESTAMP"]) / 1e6, entry.get("_SYSTEMD_UNIT", ""), text])
            size += len(text)
            while size > LOG_BYTES:
                size -= len(kept.popleft()[2])
    return list(kept)


def deployed(state: str) -> dict[str, Any]:
    """Service to the release and digest that it was deployed with."""
    try:
        with open(state + "/current.json") as file:
            found: dict[str, Any] = json.load(file)["services"]
            return found
    except (OSError, ValueError, KeyError):
        return {}


def cpu_times() -> tuple[int, int]:
    """(busy, all) ticks of all cores."""
    with open("/proc/stat") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def machine(folder: str, began: tuple[int, int]) -> dict[str, Any]:
    """Load since ``began``, at least a quarter second, and the free disk space."""
    ends_at = time.monotonic() + 0.25
    while cpu_times()[1] - began[1] < 10 and time.monotonic() < ends_at:
        time.sleep(0.05)
    busy, every = cpu_times()
    disk = os.statvfs(folder if os.path.isdir(folder) else "/")
    return {
        "cpu_share": (busy - began[0]) / max(1, every - began[1]),
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
    }


def packed(answer: dict[str, Any]) -> str:
    """On a line of its own: shells print things before it."""
    return "\n" + base64.b64encode(zlib.compress(json.dumps(answer).encode())).decode()


def main(look: Any) -> None:
    request = json.loads(sys.argv[1])
    print(packed(facts(request, look(request))))
