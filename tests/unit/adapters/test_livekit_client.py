"""livekit-client is the pinned release or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
