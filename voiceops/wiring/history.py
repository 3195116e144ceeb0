"""Build the history of a project, and record in it what commands have done."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from voiceops.config.checks import HISTORY_SCHEMES
from voiceops.errors import ConfigError, VoiceopsError
from voiceops.model.history import HistoryRecord
from voiceops.model.settings import Host, Settings
from voiceops.wiring.project import Project

if TYPE_CHECKING:
    from voiceops.history.store import HistoryStore

HISTORY_FILE = "history.db"


def history_url(settings: Settings, root: Path) -> str:
    """Where the history is kept: ``history.url``, else a file of the project's state folder."""
    if settings.history.url:
        url = settings.history.url.reveal()
        if not url.startswith(HISTORY_SCHEMES):
            # A literal one is refused when the inventory is read; this one came from a variable, file or command.
            raise ConfigError(
                f"history.url must start with {' or '.join(HISTORY_SCHEMES)}", path="history.url"
            )
        if url.startswith("sqlite:///"):
            _check_file(Path(unquote(url.removeprefix("sqlite:///"))))
        return url
    return f"sqlite:///{quote(str(root / '.voiceops' / HISTORY_FILE))}"


def has_own_history(host: Host) -> bool:
    """Whether this server's monitor keeps its history there, instead of in a database that all hosts share."""
    url = host.settings.history.url
    shared = url is not None and url.reveal().startswith("postgresql:")
    return not host.local and not shared and any(one.watches for one in host.settings.running.values())


def _check_file(file: Path) -> None:
    folder = file.parent
    if (
        not file.is_absolute()
        or not folder.is_dir()
        or not os.access(file if file.exists() else folder, os.W_OK)
    ):
        raise ConfigError(
            f"the history can't be written to {file}",
            path="history.url",
            hint="name a file by its absolute path (sqlite:////var/lib/...), in a folder that this user may write",
        )


def open_history(project: Project, host: str = "") -> HistoryStore:
    """The history of a host, by default of the first one that is selected; nothing is connected or made yet."""
    settings = (
        next((one.settings for one in project.hosts if one.name == host), None) or project.hosts[0].settings
    )
    # Some builds of Python lack sqlite3: a call that a host places must not fail for want of it.
    from voiceops.history.store import HistoryStore

    try:
        return HistoryStore(history_url(settings, project.root))
    except ConfigError as error:
        raise project.configuration.pointed(host or project.hosts[0].name, error) from None


def record_history(project: Project, records: Sequence[HistoryRecord], say: Callable[[str], None]) -> None:
    """Write what a command has done; a history that can't be written is said, and the command goes on."""
    try:
        with contextlib.closing(open_history(project)) as store:
            store.write(records)
    except ImportError as error:
        say(f"note: not recorded in the history: {error}")
    except VoiceopsError as error:
        hint = f" ({error.hint})" if error.hint else ""
        say(f"note: not recorded in the history: {error.message}{hint}")
