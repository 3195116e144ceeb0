"""livekit-client is the pinned release or nothing."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from voiceops.adapters.binaries import livekit_client as fetcher
from voiceops.adapters.binaries.livekit_client import archive_content, livekit_client
from voiceops.errors import ConfigError, VoiceopsError


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "livekit-client.umd.js"
    other.write_text("alert(1)")
    with pytest.raises(ConfigError, match="is not the file") as refused:
        livekit_client(str(other), on_progress=lambda progress: None)
    assert "livekit-client@2.23.0" in str(refused.value.hint)
    with pytest.raises(ConfigError, match="can't be read"):
        livekit_client(str(tmp_path / "none.js"), on_progress=lambda progress: None)


def test_an_archive_with_another_hash_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(VoiceopsError, match="does not match its pinned hash"):
        archive_content(b"\x1f\x8b", tmp_path)
    assert list(tmp_path.iterdir()) == []


def fake_npm(folder: Path, script: str) -> None:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, and a registry that is away."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    fake_npm(tmp_path, "echo 'network is away' >&2; exit 1")
    return tmp_path / "cache"


class Mirror(BaseHTTPRequestHandler):
    """Serves one text for each path."""

    texts: ClassVar[dict[str, bytes]] = {"/good.js": b"the file", "/other.js": b"alert(1)"}

    def do_GET(self) -> None:
        text = self.texts.get(self.path)
        self.send_response(200 if text else 404)
        self.end_headers()
        self.wfile.write(text or b"")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(fetcher, "SHA256", hashlib.sha256(Mirror.texts["/good.js"]).hexdigest())
    server = HTTPServer(("127.0.0.1", 0), Mirror)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_where_the_registry_is_away_a_mirror_brings_the_pinned_file(cache: Path, mirror: str) -> None:
    doing: list[str] = []
    path = livekit_client(None, url=f"{mirror}/good.js", on_progress=lambda one: doing.append(one.doing))
    assert path.read_bytes() == Mirror.texts["/good.js"]
    assert doing[1:] == [
        "npm pack livekit-client failed",
        f"fetching livekit-client 2.23.0 from {mirror}/good.js",
    ]


@pytest.mark.parametrize(
    ("path", "cause"), [("/other.js", "does not match the pinned hash"), ("/none.js", "answers 404")]
)
def test_a_mirror_that_has_another_file_or_none_leaves_nothing(
    cache: Path, mirror: str, path: str, cause: str
) -> None:
    with pytest.raises(VoiceopsError, match="npm pack livekit-client failed") as failed:
        livekit_client(None, url=mirror + path, on_progress=lambda progress: None)
    assert failed.value.log_tail[0] == "network is away"
    assert cause in failed.value.log_tail[1]
    assert "client_url: URL" in str(failed.value.hint)
    assert not cache.exists()


def test_what_npm_fails_with_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    fake_npm(tmp_path, "echo 'network is away' >&2; exit 1")
    with pytest.raises(VoiceopsError, match="npm pack livekit-client failed") as failed:
        livekit_client(None, on_progress=lambda progress: None)
    assert failed.value.log_tail == ("network is away",)
    fake_npm(tmp_path, "echo something-else > livekit-client-2.23.0.tgz")
    with pytest.raises(VoiceopsError, match="pinned hash"):
        livekit_client(None, on_progress=lambda progress: None)
    assert not cache.exists()


def test_without_npm_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VoiceopsError, match="not on PATH") as missing:
        livekit_client(None, on_progress=lambda progress: None)
    assert "client: PATH" in str(missing.value.hint)
