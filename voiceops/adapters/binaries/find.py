"""Where the livekit-server binary is; ``binaries_fetch`` gets it where there is none.

Looked for in this order: the configured path, PATH (the declared version only), the user's
cache, the official release, ``go install``. Once it is there, finding it costs a few stat
calls: the version of a binary on PATH is remembered, not asked for on every start. For a host
of another architecture PATH does not count: release and Go know how to make one for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

from voiceops.adapters.binaries.elf import machine_of
from voiceops.adapters.binaries.progress import OnProgress, ask_version, cache_folder
from voiceops.errors import ConfigError
from voiceops.util.atomic_write import write_atomically

RELEASES = "https://github.com/livekit/livekit/releases/download"
"""The official releases; VOICEOPS_LIVEKIT_RELEASES names a mirror with the same layout."""


def livekit_server(
    version: str,
    configured: str | None,
    *,
    on_progress: OnProgress,
    releases: str | None = None,
    machine: str = "",
) -> Path:
    """The binary of this version, fetched when there is none.

    ``machine``: for a Linux of that architecture, in the words of ``uname -m``; empty: to run here.
    Safe to call by any number of processes at once: one fetches, the others wait. Raises
    ``ConfigError`` for a configured path that can't be run or a version that is none,
    ``StorageError`` when the disk is full, and ``VoiceopsError`` with every cause when no
    source has it.
    """
    foreign = machine if machine and (sys.platform, os.uname().machine) != ("linux", machine) else ""
    if configured:
        return _configured(Path(configured).expanduser(), foreign)
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", version):
        raise ConfigError(
            f"{version!r} is no version of livekit-server", hint="write it like 1.13.5, without a v"
        )
    folder = cache_folder() / "livekit-server"
    on_path = None if foreign else shutil.which("livekit-server")
    if on_path and _version_of(Path(on_path), folder / "versions.json") == version:
        return Path(on_path)
    cached = folder / (f"{version}-linux-{foreign}" if foreign else version) / "livekit-server"
    if os.access(cached, os.X_OK):
        return cached
    from voiceops.adapters.binaries.fetch import fetch

    base = releases or os.environ.get("VOICEOPS_LIVEKIT_RELEASES") or RELEASES
    return fetch(version, cached, releases=base, machine=foreign, on_progress=on_progress)


def _configured(binary: Path, foreign: str) -> Path:
    if not binary.exists():
        raise ConfigError(f"the configured livekit-server binary {binary} does not exist")
    if not binary.is_file() or not os.access(binary, os.X_OK):
        raise ConfigError(
            f"the configured livekit-server binary {binary} can't be executed", hint=f"chmod +x {binary}"
        )
    if foreign:
        made_for = machine_of(binary)
        if made_for != foreign:
            raise ConfigError(
                f"the configured livekit-server binary {binary} is made for {made_for}, the host is {foreign}",
                path="services.livekit.binary",
                hint="without services.livekit.binary the right one is fetched",
            )
    return binary


def _version_of(binary: Path, memory: Path) -> str | None:
    """The version that a binary reports, asked once per content (path, size, time)."""
    try:
        stat = binary.stat()
    except OSError:
        return None
    key = f"{binary}:{stat.st_size}:{stat.st_mtime_ns}"
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        known = {}
    if isinstance(known, dict) and key in known:
        return str(known[key])
    version = ask_version(binary)
    if version is not None:
        remember(memory, key, version)
    return version


def remember(memory: Path, key: str, version: str) -> None:
    """Only a saving: where the cache can't be written, the binary is asked again."""
    with contextlib.suppress(OSError):
        write_atomically(memory, json.dumps({key: version}).encode())
