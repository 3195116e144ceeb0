"""Findings as people read them."""

from __future__ import annotations

from voiceops.model.findings import Finding
from voiceops.model.quoting import printable


def finding_lines(finding: Finding) -> list[str]:
    """Return the cause, the evidence and the fix of one."""
    where = f" (room {printable(finding.room)})" if finding.room else ""
    return [
        f"{finding.severity}: {finding.sentence}{where}  [{finding.rule}]",
        *(f"  seen: {printable(line)}" for line in finding.evidence),
        *([f"  fix: {finding.fix}"] if finding.fix else []),
    ]
