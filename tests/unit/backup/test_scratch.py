"""The folder in which a backup is tried goes, and never hides how the try ended."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest

from voiceops.backup.scratch import scratch_folder

FILES = 2000


def _fill(folder: Path) -> None:
    """Write as a process does that has not ended yet, and somewhat longer than a removal takes."""
    with suppress(FileNotFoundError):
        for number in range(FILES):
            (folder / f"later-{number}").touch()


def test_a_process_that_still_writes_does_not_hide_why_a_try_failed(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_folder(tmp_path) as folder:
            for number in range(FILES):
                (folder / f"file-{number}").touch()
            threading.Thread(target=_fill, args=[folder]).start()
            raise KeyError("the cause")

    with pytest.raises(KeyError, match="the cause"):
        fail()
    assert list(tmp_path.iterdir()) == []
