"""The desired state of one host: resources, checked as a whole, as the document that travels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from voiceops.errors import ConfigError
from voiceops.remote.lease import state_folder
from voiceops.resources.model import Content, Resource, Spec


@dataclass(frozen=True)
class State:
    """What a host should be. Order is the order of work; relations only move what must come first."""

    project: str
    resources: Sequence[Resource]

    @property
    def folder(self) -> str:
        """Journal, lock and blobs on the host."""
        return state_folder(self.project)

    @cached_property
    def specs(self) -> list[Spec]:
        """All specs; ``ConfigError`` for two resources of one id or a relation to none."""
        specs = [spec for resource in self.resources for spec in resource.specs()]
        known: set[str] = set()
        for spec in specs:
            if spec["id"] in known:
                raise ConfigError(f"two resources are {spec['id']}", hint="keep one of them")
            known.add(spec["id"])
        for spec in specs:
            for relation in ("needs", "restart_on", "reload_on", "on_change"):
                for other in spec.get(relation, ()):
                    if other not in known:
                        raise ConfigError(
                            f"{spec['id']} names {other} in {relation}, which is no resource of this host"
                        )
        return specs

    @cached_property
    def contents(self) -> dict[str, Content]:
        """Everything that the host may ask for, by hash."""
        return {content.sha256: content for resource in self.resources for content in resource.contents()}
