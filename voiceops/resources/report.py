"""What a run did on one host."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from voiceops.errors import EnvironmentBuildError, ServiceError, StorageError, VoiceopsError
from voiceops.remote.call import DISK_HINT
from voiceops.remote.messages import HostObservation, ResourceOutcome, ResourcesAnswer
from voiceops.resources.model import State

if TYPE_CHECKING:
    from voiceops.model.documents.common import ResourceEntry


_ERRORS: Mapping[str, type[VoiceopsError]] = {"unit": ServiceError, "venv": EnvironmentBuildError}
"""What a resource of a type raises when it fails; a plain ``VoiceopsError`` else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceResult:
    """What happened, or in check mode would happen, to one resource."""

    id: str
    type: str = ""
    """``file``, ``unit``, ``venv``, ...; empty for what is no resource of the state."""
    result: str
    """``ok``, ``changed``, ``failed``, ``skipped`` (after a failure), ``unknown`` (check mode can't tell)."""
    changes: tuple[str, ...] = ()
    note: str = ""
    error: str = ""
    kind: str = ""
    """Of a failure, as the payload tells it, such as ``disk-full``."""
    log: tuple[str, ...] = ()
    diff: str = ""
    seconds: float = 0.0

    def as_json(self) -> ResourceEntry:
        """Return the resource as documents have it: without what is empty."""
        entry: ResourceEntry = {
            "id": self.id,
            "result": self.result,
            "changes": list(self.changes),
            "note": self.note,
            "detail": self.error,
            "log": list(self.log),
            "diff": self.diff,
            "took_s": self.seconds,
        }
        return cast("ResourceEntry", {key: value for key, value in entry.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """All results of one run, in the order of the state."""

    host: str
    results: tuple[ResourceResult, ...]
    failed: str = ""
    """The id of the first resource that failed."""
    observation: HostObservation | None = None
    """The services, when they were asked for and nothing failed."""

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def changed(self) -> int:
        return sum(result.result == "changed" for result in self.results)

    @property
    def as_declared(self) -> bool:
        """Of a check: nothing would change, and nothing is unknown."""
        return all(result.result == "ok" for result in self.results)

    def get(self, resource_id: str) -> ResourceResult:
        return next(result for result in self.results if result.id == resource_id)

    def raise_for_failure(self) -> None:
        """Raise what the first failed resource says, with the lines that show its cause."""
        if self.ok:
            return
        result = self.get(self.failed)
        kind = StorageError if result.kind == "disk-full" else _ERRORS.get(result.type, VoiceopsError)
        raise kind(
            f"{self.host}: {result.id}: {result.error}",
            hint=DISK_HINT if kind is StorageError else None,
            log_tail=result.log,
            data={"host": self.host, "resource": result.id},
        )


def read_report(host: str, state: State, document: ResourcesAnswer) -> HostReport:
    """The payload's answer, with diffs made here: the new text never left this machine for them."""
    specs = {spec["id"]: spec for spec in state.specs}
    results = tuple(_result(state, specs[found["id"]], found) for found in document["results"])
    return HostReport(
        host=host, results=results, failed=document["failed"], observation=document.get("observation")
    )


def _result(state: State, spec: Mapping[str, Any], found: ResourceOutcome) -> ResourceResult:
    return ResourceResult(
        id=found["id"],
        type=spec["type"],
        result=found["result"],
        changes=tuple(found.get("changes", ())),
        note=found.get("note", ""),
        error=found.get("error", ""),
        kind=found.get("kind", ""),
        log=tuple(found.get("log", ())),
        seconds=found.get("seconds", 0.0),
        diff=_diff(state, spec, found["before"]) if "before" in found else "",
    )


def _diff(state: State, spec: Mapping[str, Any], before: str) -> str:
    content = state.contents[spec["sha256"]]
    if content.size > 256 * 1024:
        return ""
    with content.open() as file:
        data: bytes = file.read()
    try:
        after = data.decode()
    except UnicodeDecodeError:
        return ""
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        f"{spec['path']} (is)",
        f"{spec['path']} (becomes)",
        lineterm="",
    )
    return "\n".join(lines)
