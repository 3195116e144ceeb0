"""Remember, between two runs of cleanup, since when rooms have been seen without a person."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from voiceops.errors import StorageError
from voiceops.rooms.rules import Observation
from voiceops.util.atomic_write import write_atomically

log = logging.getLogger(__name__)


class ObservationFile:
    """Observations per server in one small JSON file; only of rooms that still exist.

    Written by temp file and rename. A file that can't be read is as good as none: rooms then
    stay a little longer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, server: str) -> dict[str, Observation]:
        return self._all().get(server, {})

    def save(self, server: str, observed: Mapping[str, Observation]) -> None:
        """Replace what is known of ``server``; ``StorageError`` if the file can't be written."""
        everything = self._all()
        if everything.get(server, {}) == observed:
            return
        everything[server] = dict(observed)
        try:
            write_atomically(self._path, msgspec.json.encode(everything))
        except OSError as error:
            raise StorageError(
                f"can't write {self._path}: {error.strerror}",
                hint="cleanup remembers there since when rooms are unattended",
            ) from None

    def _all(self) -> dict[str, dict[str, Observation]]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, dict[str, Observation]])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("observations are unreadable and start anew", extra={"error": type(error).__name__})
            return {}
