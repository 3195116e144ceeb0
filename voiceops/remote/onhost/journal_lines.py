"""Read from the journal what one run of a unit wrote."""

from __future__ import annotations

import json
import re

from voiceops.remote.onhost.base import Cancel, run_child
from voiceops.remote.onhost.unit_state import sync_journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.diagnosis_messages import JournalEntry

LOG_BYTES = 4_000_000
"""Of the journal, the newest."""
NOISE = re.compile(r"\S+: (Killing process \d+ \(.*\) with signal|Consumed .* CPU time)")
"""What systemd says of each process that is left: a dozen of such lines would hide the cause of a death."""


def run_lines(invocation: str, count: int) -> list[str]:
    """Return the last lines of a run that goes on; of one that has died ``ended_run_lines`` knows more."""
    if not invocation:
        return []
    sync_journal()
    argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={count + 200}"]
    argv += [f"_SYSTEMD_INVOCATION_ID={invocation}", "+", f"INVOCATION_ID={invocation}"]
    lines = run_child(argv, Cancel(), errors=False, limit=LOG_BYTES).output.splitlines()
    return [line for line in lines if not NOISE.match(line)][-count:]


def ended_run_lines(unit: str, invocation: str, count: int) -> list[str]:
    """Return the last lines of one run of a unit, whatever journald says of whose they are.

    It looks up the run of a line as it reads the line: on a host under load what a program wrote right before it died
    is of no run then, or of the next one.
    """
    if not invocation:
        return []
    sync_journal()
    argv = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=json",
        f"--lines={count + 200}",
        f"--unit={unit}",
    ]
    argv.append("--output-fields=MESSAGE,INVOCATION_ID,_SYSTEMD_INVOCATION_ID")
    entries = []
    for line in run_child(argv, Cancel(), errors=False, limit=LOG_BYTES).output.splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue  # the first one, cut off at the limit
    found = [text for entry in entries_of_run(entries, invocation) for text in message_of(entry).splitlines()]
    return [line for line in found if not NOISE.match(line)][-count:]


def entries_of_run(entries: list[JournalEntry], invocation: str) -> list[JournalEntry]:
    """Pick the entries of a run from those of its unit: what stands among or right behind them counts as its own."""
    # By systemd, which tells of one run of a unit after the other.
    told = [entry.get("INVOCATION_ID", "") for entry in entries]
    owners = [entry.get("_SYSTEMD_INVOCATION_ID", "") for entry in entries]
    own = [at for at in range(len(entries)) if invocation in (told[at], owners[at])]
    if not own:
        return []
    end = own[-1] + 1
    while end < len(entries) and not told[end] and not owners[end]:
        end += 1
    return [entries[at] for at in range(own[0], end) if told[at] in ("", invocation)]


def message_of(entry: JournalEntry) -> str:
    """The text of an entry; journald gives what is no text as a list of bytes, and what is too long as null."""
    text = entry.get("MESSAGE") or ""
    return bytes(text).decode(errors="replace") if isinstance(text, list) else str(text)
