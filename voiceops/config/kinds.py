"""What reading an inventory needs to know of the kinds of service; ``voiceops.kinds`` implements it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from voiceops.model.settings import ServiceBase, Settings

if TYPE_CHECKING:
    from voiceops.config.decode import Decoder, Path


@dataclass(frozen=True, slots=True)
class PortUse:
    """A port that a service listens on."""

    protocol: str
    """TCP or UDP."""
    port: int
    path: tuple[str, ...]
    """The setting that says so."""


class SettingsKind(Protocol):
    """One kind of service, as far as its settings go."""

    @property
    def settings(self) -> type[ServiceBase]:
        """The struct that its settings are decoded into."""

    def check(self, service: Any, decoder: Decoder, path: Path) -> None:
        """Raise ``ConfigError`` for what the types can't say."""

    def ports(self, name: str, service: Any, settings: Settings) -> Iterable[PortUse]:
        """The ports that it listens on."""


class KindRegistry(Protocol):
    """All kinds of service."""

    def names(self) -> tuple[str, ...]:
        """What ``kind`` can be."""

    def find(self, name: str) -> SettingsKind | None:
        """The kind of this name."""

    def kind_of(self, service: ServiceBase) -> SettingsKind:
        """The kind of a service whose settings were decoded."""
