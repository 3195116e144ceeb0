"""Make the parts of JSON documents that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceops.errors import VoiceopsError

if TYPE_CHECKING:
    from voiceops.model.documents.common import HostFailure


def host_failure(error: VoiceopsError, *, skipped: str = "") -> HostFailure:
    """Return what stands in a document for a host on which the command failed, or whose turn never came."""
    failure: HostFailure = {"ok": False, "error": error.as_json()}
    return {**failure, "skipped": skipped} if skipped else failure
