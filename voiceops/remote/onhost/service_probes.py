"""Ask services whether they do their job, each as its unit does when it starts: with its user and its variables."""

from __future__ import annotations

import os
import re
import subprocess
import threading

from voiceops.remote.onhost.processes import ANSWER_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.diagnosis_messages import ServiceProbe
    from voiceops.remote.messages import UnitState

PROBE_S = 6.0
NOT_READY = "not ready after 0 s: "
SERVICE_MARK = b"VOICEOPS_SERVICE="


def probe_services(units: list[UnitState], probes: list[ServiceProbe]) -> None:
    """Note on each unit that runs what its probe says, side by side: one that hangs takes ``PROBE_S``."""
    named = {probe["unit"]: probe for probe in probes}
    asked = []
    for unit in units:
        probe = named.get(unit["unit"])
        if probe is None:
            continue
        unit["undeployed"] = undeployed(probe)
        if unit["active"] == "active" and unit["pid"] and probe["argv"] and not unit.get("stopped"):
            asked.append(threading.Thread(target=ask, args=(unit, probe)))
            asked[-1].start()
    for one in asked:
        one.join()


def undeployed(probe: ServiceProbe) -> list[str]:
    """Names of the variables that the host has in another value, or not at all; none where it has no such file."""
    try:
        with open(probe["environment"]) as file:
            text = "\n" + file.read()
    except OSError:
        return []
    return [name for name, line in sorted(probe["lines"].items()) if "\n" + line not in text]


def ask(unit: UnitState, probe: ServiceProbe) -> None:
    """Run the probe as the user of the unit's process."""
    pid = unit["pid"]
    try:
        with open(f"/proc/{pid}/status") as file:
            status = file.read()
        user, group = (
            int(re.findall(rf"^{key}:\s+\d+\s+(\d+)", status, re.MULTILINE)[0]) for key in ("Uid", "Gid")
        )
        done = subprocess.run(
            probe["argv"],
            env={**variables(pid), **probe["env"], "MAINPID": str(pid)},
            cwd=f"/proc/{pid}/cwd",
            user=user,
            group=group,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        unit["unready"] = f"gives no answer in {PROBE_S:g} s"
        return
    except (OSError, IndexError) as error:
        unit["unready"] = f"can't be asked: {error}"
        return
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        # What the client of a database prints says more than its exit code, which the probe adds.
        *printed, last = said.splitlines() or [f"its probe exits {done.returncode}"]
        unit["unready"] = " ".join(printed)[-300:] or last.replace(NOT_READY, "")
        unit["refused"] = any(text in said for text in probe["refusals"])


def variables(pid: int) -> dict[str, str]:
    """What a unit's process was started with, unless it wrote its title over it, as Redis and PostgreSQL do."""
    found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    with open(f"/proc/{pid}/environ", "rb") as file:
        listed = file.read(ANSWER_BYTES).split(b"\0")
    if any(one.startswith(SERVICE_MARK) for one in listed):
        for one in listed:
            name, equals, value = one.partition(b"=")
            if equals:
                found[os.fsdecode(name)] = os.fsdecode(value)
    return found
