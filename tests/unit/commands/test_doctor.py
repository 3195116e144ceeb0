"""What ``why`` says of a host, and when it says that all is well."""

from __future__ import annotations

from voiceops.commands.doctor import _HostDiagnosis, _text


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
