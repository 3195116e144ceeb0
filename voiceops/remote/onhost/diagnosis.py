"""What ``why`` needs to know of a host, in one exec: services, logs, the machine."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import time

from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.disks import disk_states
from voiceops.remote.onhost.entry import answers
from voiceops.remote.onhost.journal_lines import LOG_BYTES, message_of
from voiceops.remote.onhost.observe import observe_services
from voiceops.remote.onhost.processes import process_variable
from voiceops.remote.onhost.service_probes import probe_services
from voiceops.remote.onhost.unit_state import sync_journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.diagnosis_messages import DiagnoseRequest, HostDiagnosis, MachineState

LINE_CHARACTERS = 8_000


@answers("host.diagnose")
def diagnose_host(request: DiagnoseRequest, channel: Channel) -> HostDiagnosis:
    """Observe the services, and add the state of their processes, logs and the machine."""
    began = cpu_times()
    found = observe_services(request)
    for unit in found["units"]:
        if unit["pid"]:
            unit["url"] = process_variable(unit["pid"], "LIVEKIT_URL")
            unit["stopped"] = process_state(unit["pid"]) in ("T", "t")
    probe_services(found["units"], request["probes"])
    now = time.time()
    return {
        **found,
        "now": now,
        "lines": unit_lines(request["units"], now - request["window_s"]),
        "machine": machine_state(request["state_dir"], began),
        "disks": disk_states(request["state_dir"], request["folders"]),
    }


def process_state(pid: int) -> str:
    """One letter, as ps prints it: T is stopped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def unit_lines(units: list[str], since: float) -> list[tuple[float, str, str]]:
    """Seconds, unit and text, oldest first."""
    sync_journal()
    argv = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--since=@{since:.6f}"]
    argv += ["--output-fields=MESSAGE,_SYSTEMD_UNIT", *(f"--unit={unit}" for unit in units)]
    kept: collections.deque[tuple[float, str, str]] = collections.deque()
    size = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as journal:
        assert journal.stdout is not None
        for line in journal.stdout:
            entry = json.loads(line)
            text = message_of(entry)[:LINE_CHARACTERS]
            kept.append((int(entry["__REALTIME_TIMESTAMP"]) / 1e6, entry.get("_SYSTEMD_UNIT", ""), text))
            size += len(text)
            while size > LOG_BYTES:
                size -= len(kept.popleft()[2])
    return list(kept)


def cpu_times() -> tuple[int, int]:
    """(busy, all) ticks of all cores."""
    with open("/proc/stat") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def machine_state(folder: str, began: tuple[int, int]) -> MachineState:
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
