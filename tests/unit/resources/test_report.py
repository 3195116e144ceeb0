"""A report raises what its failed resource is about."""

from __future__ import annotations

import pytest

from voiceops.errors import EnvironmentBuildError, ServiceError, StorageError, VoiceopsError
from voiceops.resources import HostReport, ResourceResult


@pytest.mark.parametrize(
    ("resource_type", "kind", "error"),
    [
        ("file", "", VoiceopsError),
        ("unit", "", ServiceError),
        ("venv", "", EnvironmentBuildError),
        ("venv", "disk-full", StorageError),
    ],
)
def test_the_type_of_a_failed_resource_decides_the_error(
    resource_type: str, kind: str, error: type[VoiceopsError]
) -> None:
    failed = ResourceResult(id="x", type=resource_type, result="failed", error="no", kind=kind)
    with pytest.raises(VoiceopsError) as raised:
        HostReport(host="web1", results=(failed,), failed="x").raise_for_failure()
    assert type(raised.value) is error
