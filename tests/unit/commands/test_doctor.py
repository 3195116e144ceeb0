"""What ``why`` says of a host, and when it says that all is well."""

from __future__ import annotations

from voiceops.commands.doctor import _HostDiagnosis, _outcome, _text
from voiceops.doctor.recover import Recovery, RecoveryLevel
from voiceops.model.findings import Finding, Fix


def diagnosis(*problems: str, incomplete: bool = False) -> _HostDiagnosis:
    return _HostDiagnosis(
        findings=(), results=(), problems=problems, room_is_missing=False, incomplete=incomplete
    )


def test_nothing_found_is_well_only_when_everything_was_observed() -> None:
    assert diagnosis("2750 rooms in which LiveKit counts nobody: `inv cleanup-rooms`").ok
    hole = diagnosis("could not inspect the workers: no answer in 10 s", incomplete=True)
    assert not hole.ok
    assert _text(hole, "") == (
        "not seen: could not inspect the workers: no answer in 10 s\n"
        "No fault found in what was seen, and that was not all: ask again."
    )
    assert "nobody waits in silence" in _text(diagnosis(), "")


def test_recover_says_what_only_a_person_can_do_though_a_call_was_answered() -> None:
    def finding(sentence: str, action: str) -> Finding:
        fixes = (Fix(command="make room", action=action),)
        return Finding(rule="x", severity="warning", sentence=sentence, evidence=(), fixes=fixes)

    found = (finding("The disk of logs is full.", ""), finding("letta runs with an older one.", "start"))
    said = _outcome(Recovery(steps=(), findings=found, took_s=1.0, helped=RecoveryLevel.DIAGNOSE))
    assert said.splitlines()[0] == "Nothing to do: a call was answered."
    assert "The disk of logs is full." in said
    assert "letta" not in said
