"""Documents of deploy, setup, drift, rollback, releases, lock, unlock and render."""

from __future__ import annotations

from typing import Literal, TypedDict

from typing_extensions import NotRequired

from voiceops.errors import CanaryEntry
from voiceops.model.documents.common import CallEntry, HostFailure, ResourceEntry, ServiceEntry


class ResourcesHost(TypedDict):
    """One host after its resources were applied, or with --check compared."""

    ok: bool
    changed_count: int
    resources: list[ResourceEntry]


class ResourcesDocument(TypedDict):
    """What tasks of one's own print that use ``bring_hosts``."""

    check: bool
    changed_count: int
    hosts: dict[str, ResourcesHost | HostFailure]


class PlannedService(TypedDict):
    """With --check: what a deploy would do to a service."""

    changed: bool
    action: str
    detail: str


class BadRelease(TypedDict):
    """Why a declared release is marked bad."""

    release: str
    at: str
    by: str
    reason: str


class DeployedHost(TypedDict):
    """One host after deploy or setup, or compared by drift and --check."""

    ok: bool
    changed_count: int
    """Resources and services that changed, or with --check would."""
    release: str
    resources: list[ResourceEntry]
    services: dict[str, ServiceEntry | PlannedService]
    calls: NotRequired[dict[str, CallEntry]]
    unproved: NotRequired[str]
    """Why nobody knows that what runs answers calls."""
    bad: NotRequired[dict[str, BadRelease]]
    canaries: NotRequired[dict[str, CanaryEntry]]


class DeployDocument(TypedDict):
    """``inv deploy``, ``inv setup``, ``inv drift``."""

    check: bool
    changed_count: int
    hosts: dict[str, DeployedHost | HostFailure]
    call: NotRequired[CallEntry]
    """A call through the servers after the last host."""


class RotationDocument(TypedDict):
    """``inv rotate-keys``."""

    step: Literal["add", "use", "drop", "done"]
    """The last step that was begun; with --check the next one."""
    hosts: dict[str, object]
    """What that step did, as ``inv start`` or ``inv deploy`` has it."""


class RolledBackService(ServiceEntry):
    """An agent that went back."""

    before: str
    release: str


class RolledBackHost(TypedDict):
    """One host after rollback."""

    ok: bool
    changed_count: int
    services: dict[str, RolledBackService]


class RollbackDocument(TypedDict):
    """``inv rollback``."""

    changed_count: int
    hosts: dict[str, RolledBackHost | HostFailure]


class ReleaseEntry(TypedDict):
    """One line of a host's history."""

    at: str
    service: str
    release: str
    result: str
    """ok, bad or unproved."""
    state: Literal["current", "kept", "gone"]
    action: str
    by: str
    reason: str


class CurrentRelease(TypedDict):
    """What serves now."""

    release: str
    digest: str


class ReleasesHost(TypedDict):
    """What one host remembers of its releases."""

    ok: bool
    releases: list[ReleaseEntry]
    current: dict[str, CurrentRelease]
    unproved: str


class ReleasesDocument(TypedDict):
    """``inv releases``."""

    hosts: dict[str, ReleasesHost | HostFailure]


class LockedHost(TypedDict):
    """The deploy lock of one host after lock or unlock."""

    ok: bool
    changed: bool
    locked: bool
    owner: str
    """Who holds it, or held it before unlock."""
    reason: str
    expires_at: str | None


class LockDocument(TypedDict):
    """``inv lock``, ``inv unlock``."""

    changed_count: int
    hosts: dict[str, LockedHost | HostFailure]


class RenderedFile(TypedDict):
    """One file of a host; secrets are masked."""

    text: str


class RenderedHost(TypedDict):
    """The files of one host by their path there."""

    ok: bool
    files: dict[str, RenderedFile]


class RenderDocument(TypedDict):
    """``inv render``."""

    hosts: dict[str, RenderedHost | HostFailure]
