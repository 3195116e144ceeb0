"""What handlers see of the host during one run."""

from __future__ import annotations

import os

from voiceops.remote.onhost.base import Cancel, Child, run_child
from voiceops.remote.onhost.blobs import Blobs
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.hashes import Hashes
from voiceops.remote.onhost.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from voiceops.remote.messages import ApplyRequest, CheckRequest
    from voiceops.remote.onhost.base import Spec


class ResourcePlan:
    """What a resource would do; no changes means that it is as desired."""

    __slots__ = ("before", "blobs", "changes", "data", "note", "unknown")

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.unknown = ""
        """Why check mode can't tell."""
        self.note = ""
        self.before: str | None = None
        """The old text, for a diff."""
        self.blobs: list[tuple[str, int]] = []
        """Content that applying needs: hash and size."""
        self.data: Spec = {}
        """What apply reuses from planning."""


class ResourceRun:
    """One run over the desired state of a host."""

    def __init__(self, request: CheckRequest | ApplyRequest, channel: Channel, journal: Journal) -> None:
        self.guessing = True
        """While surveying: what an earlier step would make may be missing."""
        self.diff = request["diff"]
        self.folder = request["state_dir"]
        self.specs: dict[str, Spec] = {spec["id"]: spec for spec in request["resources"]}
        self.channel = channel
        self.cancel: Cancel = channel.cancel
        self.journal = journal
        self.hashes = Hashes(self.folder)
        self.blobs = Blobs(self.folder, channel)
        self.changed: set[str] = set()
        """Resources that changed in this run, or would."""
        self.planned_users: set[str] = set()
        """Users and groups that this run creates: check mode can't look them up."""
        self.facts: dict[str, dict[str, str]] = {}
        """Units, as ``systemctl show`` last printed them; read once for all, dropped when stale."""
        self.observed_units: list[str] = []
        """Units that are observed after planning, as patterns: one ``systemctl show`` serves both."""
        self.shown: list[dict[str, str]] | None = None
        """What it printed of all of them."""

    def child(
        self,
        *argv: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout_s: float = 60.0,
        errors: bool = True,
        whole: bool = False,
    ) -> Child:
        return run_child(
            argv,
            self.cancel,
            stdin=stdin,
            env=env,
            cwd=cwd,
            timeout_s=timeout_s,
            errors=errors,
            whole=whole,
        )

    def causes(self, spec: Spec, key: str) -> list[str]:
        """The changes, of this run or left by a killed one, that this resource must react to."""
        listed = [cause for cause in spec.get(key, ()) if cause in self.changed]
        left = self.journal.pending.get(spec["id"], set())
        return listed + sorted(cause for cause in left if cause not in listed)


class ResourceHandler:
    """How one type of resource is planned and applied. ``apply`` gets the plan just made."""

    def plan(self, spec: Spec, run: ResourceRun) -> ResourcePlan:
        raise NotImplementedError

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        raise NotImplementedError


def first_existing(*paths: str) -> str:
    """The first path that exists, or an empty string."""
    return next((path for path in paths if os.path.exists(path)), "")
