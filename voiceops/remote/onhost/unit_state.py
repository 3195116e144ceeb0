"""Read the state of systemd units, and what they wrote."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import time

from voiceops.remote.onhost.base import Cancel, Failed, run_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.messages import UnitState

OBSERVED_PROPERTIES = (
    "Id,Type,LoadState,Job,ActiveState,SubState,MainPID,NRestarts,Result,ExecMainCode,ExecMainStatus,Environment,"
    "UnitFileState,StatusText,InvocationID,ExecMainStartTimestampMonotonic,EnvironmentFiles,CPUUsageNSec,MemoryCurrent"
)
SHOWN_BYTES = 4_000_000
WANTS = "/etc/systemd/system/*.wants"
"""Folders with the links to what starts with the host."""


def systemctl(*arguments: str) -> None:
    """Run systemctl, whatever comes of it: the state of the unit tells."""
    run_child(["systemctl", *arguments], Cancel())


def shown_units(properties: str, *names: str, cancel: Cancel | None = None) -> list[dict[str, str]]:
    """Return what ``systemctl show`` prints of units, given by names or patterns."""
    argv = ["systemctl", "show", "--no-pager", "-p", properties, "--", *names]
    child = run_child(argv, cancel or Cancel(), errors=False, limit=SHOWN_BYTES)
    if child.code != 0:
        raise Failed("systemctl does not answer: is systemd running on this host?", child.tail())
    blocks = child.output.split("\n\n")
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]


def unit_states(*patterns: str, shown: list[dict[str, str]] | None = None) -> list[UnitState]:
    """Return the loaded units of these names or patterns; ``shown``: as ``systemctl`` has printed them already."""
    if shown is None:
        shown = shown_units(OBSERVED_PROPERTIES, *patterns)
    # One that matches two names is shown twice.
    return list({block["Id"]: _typed(block) for block in shown if block.get("Id")}.values())


def enabled_state(block: dict[str, str]) -> str:
    """``UnitFileState``; of an instance by its link, as systemd remembers its own answer until it reads all units anew."""
    state = block.get("UnitFileState", "")
    if "@" not in block["Id"] or state not in ("enabled", "disabled"):
        return state
    return (
        "enabled"
        if any(os.path.lexists(f"{wants}/{block['Id']}") for wants in glob.glob(WANTS))
        else "disabled"
    )


def unit_state(name: str) -> UnitState:
    return unit_states(name)[0]


def counter(text: str | None) -> int | None:
    """A number that systemd keeps; None for ``[not set]``, which older ones write as 2**64-1."""
    number = int(text) if text and text.isdigit() else -1
    return number if 0 <= number < 2**63 else None


def _typed(block: dict[str, str]) -> UnitState:
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
        "enabled": enabled_state(block),
        "text": block.get("StatusText", ""),
        "invocation": block.get("InvocationID", ""),
        "age_s": time.monotonic() - started_us / 1e6
        if started_us and (pid or block.get("SubState") == "exited")
        else 0.0,
    }


def is_instance(unit: UnitState) -> bool:
    """Whether it is an agent's: only their units are instances of a template."""
    return "@" in unit["unit"]


def instance_of(name: str) -> str:
    """``PROJECT-SERVICE@INSTANCE.service`` to INSTANCE."""
    return name.partition("@")[2].rpartition(".service")[0]


def sync_journal() -> None:
    """Wait for what units have written: right after one died, its last lines may still be on their way to the journal.

    Where journald hangs, what stands there already has to do.
    """
    with contextlib.suppress(Failed):
        run_child(["journalctl", "--sync"], Cancel(), timeout_s=10.0)
