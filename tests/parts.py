"""The real parts that tests run on: where they are, or a skip that says why not.

CI sets ``VOICEOPS_REQUIRE_PARTS=1``: there a missing part fails instead.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NoReturn

import pytest

LIVEKIT_VERSION = "1.13.5"


def cache_folder() -> Path:
    """The user's cache, outside the checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voiceops"


def missing(part: str, reason: str) -> NoReturn:
    """Skip visibly; fail where parts are required."""
    message = f"{part} is missing: {reason}"
    if os.environ.get("VOICEOPS_REQUIRE_PARTS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def livekit_server_binary() -> Path:
    """The pinned livekit-server."""
    binary = cache_folder() / "livekit-server" / LIVEKIT_VERSION / "livekit-server"
    if not binary.exists():
        missing("livekit-server", "run `./inv test` once as it installs it, or put it into the cache")
    return binary


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
