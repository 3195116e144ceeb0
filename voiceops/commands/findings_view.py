"""Findings as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceops.model.findings import Finding
from voiceops.model.quoting import printable

if TYPE_CHECKING:
    from voiceops.model.documents.common import FindingEntry


def finding_lines(finding: Finding) -> list[str]:
    """Return the cause, the evidence and the fix of one."""
    return entry_lines(finding.as_json())


def entry_lines(entry: FindingEntry) -> list[str]:
    """The same of one in a document."""
    room = entry.get("room", "")
    where = f" (room {printable(room)})" if room else ""
    return [
        f"{entry['severity']}: {printable(entry['cause'])}{where}  [{entry['rule']}]",
        *(f"  seen: {printable(line)}" for line in entry["evidence"]),
        *([f"  fix: {entry['fix']}"] if entry["fix"] else []),
    ]
