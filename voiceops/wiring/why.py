"""Build the question why a call was not answered."""

from __future__ import annotations

import asyncio

from voiceops.calls.ports import Why
from voiceops.model.documents.common import DiagnosisEntry
from voiceops.wiring.project import Project


def why_of(project: Project) -> Why | None:
    """Asks the rules about the room of a failed call; None where there is no one host to look at."""
    if len(project.hosts) != 1:
        return None

    def diagnosed(room: str) -> DiagnosisEntry:
        # The rules and their facts: only a call that failed needs them.
        from voiceops.wiring.doctor import recovery_actions

        with recovery_actions(project, project.hosts[0], say=lambda _line: None) as actions:
            facts = actions.facts(room)
            findings = actions.findings(facts)
        return {
            "ok": not facts.incomplete and not any(finding.severity == "error" for finding in findings),
            "findings": [finding.as_json() for finding in findings],
            "problems": list(facts.problems),
        }

    async def why(room: str) -> DiagnosisEntry:
        return await asyncio.to_thread(diagnosed, room)

    return why
