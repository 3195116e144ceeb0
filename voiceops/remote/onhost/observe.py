"""Observe the services of a host: units, who owns the ports, workers started by hand, and the ledger."""

from __future__ import annotations

import os
import re
import time

from voiceops.remote.onhost.agents import ANSWER_S, active_jobs, add_healths, told_to_drain
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.entry import answers
from voiceops.remote.onhost.ledger import bad_releases, current_releases, release_links
from voiceops.remote.onhost.processes import (
    ANSWER_BYTES,
    parent_of,
    port_owners,
    process_entry,
    process_variable,
)
from voiceops.remote.onhost.unit_state import is_instance, unit_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from voiceops.remote.messages import HostObservation, HostProbe, StrayWorker, UnitState

MODES = {"start", "dev", "connect", "console"}
"""Of livekit-agents' command line."""


@answers("host.observe")
def observe_host(request: HostProbe, channel: Channel) -> HostObservation:
    return observe_services(request)


def observe_services(probe: HostProbe, shown: list[dict[str, str]] | None = None) -> HostObservation:
    """Return what the probe asks for; ``shown``: units as ``systemctl`` has printed them already."""
    units = unit_states(*probe["patterns"], shown=shown)
    for unit in units:
        if unit["pid"]:
            name = "VOICEOPS_SERVICE"
            unit["service"] = process_variable(unit["pid"], name) or noted_variable(unit, name)
            unit["draining"] = told_to_drain(unit)
        elif unit["sub"] == "exited":  # a one-shot
            unit["service"] = noted_variable(unit, "VOICEOPS_SERVICE")
    add_healths([unit for unit in units if unit["pid"] and is_instance(unit)])
    return {
        "units": units,
        "owners": port_owners(probe["ports"]),
        "workers": workers_by_hand(probe) if probe["entries"] else [],
        "current": current_releases(probe["state_dir"]),
        "links": release_links(probe["opt"]),
        "bad": bad_releases(probe["state_dir"], probe["releases"]) if probe["releases"] else {},
    }


def noted_variable(unit: UnitState, name: str) -> str:
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


def workers_by_hand(probe: HostProbe) -> list[StrayWorker]:
    """Workers with one of our entries for our LiveKit, that no unit of voiceops runs."""
    found: dict[int, Any] = {}
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as raw:
                line = raw.read(ANSWER_BYTES).decode(errors="replace")
            argv = line.split("\0")
            if not os.path.basename(argv[0]).startswith("python") or MODES.isdisjoint(argv):
                continue
            # Units pass their mark on; an environment file that somebody sourced does not have it.
            if process_variable(pid, "VOICEOPS_UNIT"):
                continue
            named = [word for word in argv[1:] if os.path.basename(word) in probe["entries"]]
            path = os.path.realpath(os.path.join(os.readlink(f"/proc/{pid}/cwd"), named[0])) if named else ""
            given = re.search(r"\0--url[=\0]([^\0]*)", line)
            url = given.group(1) if given else process_variable(pid, "LIVEKIT_URL")
            ours = url.rstrip("/") == probe["url"] if url else path.startswith(probe["opt"] + "/")
            if named and ours:
                found[pid] = {**process_entry(pid), "entry": os.path.basename(path), "parent": parent_of(pid)}
        except OSError:
            continue  # it has ended meanwhile
    tops = [one for one in found.values() if one["parent"] not in found]
    ends_at = time.monotonic() + ANSWER_S
    for one in tops:
        one["calls"] = active_jobs(one["pid"], ends_at)
    return tops
