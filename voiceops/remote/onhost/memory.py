"""Read how much memory units take and how much a host has left."""

from __future__ import annotations

import os
import re

from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.entry import answers
from voiceops.remote.onhost.unit_state import shown_units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.messages import MemoryAnswer, MemoryRequest


@answers("host.memory")
def host_memory(request: MemoryRequest, channel: Channel) -> MemoryAnswer:
    """PSS of each unit's processes, and what Linux says is available without swapping."""
    with open("/proc/meminfo") as file:
        text = file.read()
    known = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
    groups = shown_units("Id,ControlGroup", *request["units"]) if request["units"] else []
    return {
        "available_bytes": known["MemAvailable"],
        "total_bytes": known["MemTotal"],
        "units": {one["Id"]: pss_of(processes_of(one.get("ControlGroup", ""))) for one in groups},
    }


def processes_of(group: str) -> list[int]:
    """The processes of a unit, by the control group that each names for itself."""
    found = []
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()] if group else []:
        try:
            with open(f"/proc/{pid}/cgroup") as file:
                places = [line.rstrip("\n").split(":", 2)[2] for line in file]
        except OSError:
            continue  # it has ended meanwhile
        if any(place == group or place.startswith(f"{group}/") for place in places):
            found.append(pid)
    return found


def pss_of(pids: list[int]) -> int:
    """Their memory, what they share with others divided among all: resident sizes would count it for each."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                counted = re.search(r"^Pss: +(\d+) kB", file.read(), re.MULTILINE)
        except OSError:
            continue
        total += int(counted.group(1)) * 1024 if counted else 0
    return total
