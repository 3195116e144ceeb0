"""``diagnose``: from facts to findings, the most likely cause first.

All rules are pure. Rules about the stack (server, workers, keys, clocks) come before
rules about single rooms, because a cause below explains every symptom above it; a room
whose silence is explained from below gets no finding of its own, but its caller still
needs a new dispatch, so that the fix of the cause ends with one: LiveKit never repeats
a job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from voiceops.doctor import certificate_rules, code_rules, server_rules, service_rules, worker_rules
from voiceops.doctor.facts import StackFacts
from voiceops.doctor.room_rules import judge_room
from voiceops.model.findings import Finding

SEVERITIES = ("error", "warning", "info")

Rule = Callable[[StackFacts], Iterator[Finding]]

STACK_RULES: tuple[Rule, ...] = (
    server_rules.server_down,
    server_rules.stray_server,
    server_rules.server_not_ready,
    server_rules.credentials,
    server_rules.clock_skew,
    server_rules.secret_too_short,
    server_rules.refused_tokens,
    service_rules.full_disk,
    service_rules.low_disk,
    service_rules.broken_service,
    service_rules.refused_password,
    certificate_rules.certificate,
    service_rules.dead_monitor,
    service_rules.old_configuration,
    worker_rules.no_worker,
    worker_rules.frozen_worker,
    worker_rules.unregistered_worker,
    code_rules.other_name,
    code_rules.failing_calls,
    code_rules.calls_without_data,
    worker_rules.several_workers,
    worker_rules.old_code,
    worker_rules.over_load,
)


def diagnose(facts: StackFacts) -> tuple[Finding, ...]:
    """All findings, the most likely cause first; empty: whoever calls gets an agent."""
    findings = [finding for rule in STACK_RULES for finding in rule(facts)]
    explained = any(finding.severity == "error" and not finding.past for finding in findings)
    for room in facts.rooms:
        if facts.wanted_room and room.name != facts.wanted_room:
            continue
        finding = judge_room(room, facts)
        if finding is not None and not (explained and finding.from_below):
            findings.append(replace(finding, room=room.name, room_sid=room.sid))
    return tuple(sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), finding.rank)))
