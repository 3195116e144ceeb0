"""The files of the page, read once: only what is listed here is ever served, so no path leads anywhere else."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from voiceops.adapters.binaries.livekit_client import read_client

PAGE = Path(__file__).parent / "page"
_JAVASCRIPT = "text/javascript"
_PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/base.css": ("base.css", "text/css"),
    "/style.css": ("style.css", "text/css"),
    "/page.mjs": ("page.mjs", _JAVASCRIPT),
    "/view.mjs": ("view.mjs", _JAVASCRIPT),
    "/call-machine.mjs": ("call-machine.mjs", _JAVASCRIPT),
    "/voiceops-client.js": ("voiceops-client.js", _JAVASCRIPT),
}
_DASHBOARD_FILES = {
    "/base.css": ("base.css", "text/css"),
    "/ops": ("ops.html", "text/html"),
    "/ops.css": ("ops.css", "text/css"),
    "/ops.mjs": ("ops.mjs", _JAVASCRIPT),
    "/ops-view.mjs": ("ops-view.mjs", _JAVASCRIPT),
}
CLIENT_URL = "/livekit-client.js"
LIBRARY = frozenset({"/voiceops-client.js", "/call-machine.mjs", CLIENT_URL})
"""What pages of other origins import."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, plain and compressed."""

    content: bytes
    compressed: bytes
    content_type: str
    etag: str


def load_assets(client: Path) -> dict[str, Asset]:
    """Return all files by their URL; ``ConfigError`` where livekit-client is not the pinned one."""
    return _assets(_PAGE_FILES) | dashboard_assets() | {CLIENT_URL: _asset(read_client(client), _JAVASCRIPT)}


def dashboard_assets() -> dict[str, Asset]:
    """Return the files of the dashboard by their URL."""
    return _assets(_DASHBOARD_FILES)


def _assets(files: Mapping[str, tuple[str, str]]) -> dict[str, Asset]:
    return {url: _asset((PAGE / name).read_bytes(), kind) for url, (name, kind) in files.items()}


def _asset(content: bytes, content_type: str) -> Asset:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return Asset(content, gzip.compress(content, 6, mtime=0), content_type, f'"{digest}"')
