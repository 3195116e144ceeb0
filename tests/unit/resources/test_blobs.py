"""Uploads on the host: on disk before they are named, and counted by their content, not by their name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.resources.test_apply import Machine
from voiceops.adapters.process.local import LocalTransport
from voiceops.remote.onhost.blobs import _Sink
from voiceops.resources import Blob

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the payload runs as root")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with closing(LocalTransport()) as transport:
        yield Machine(transport, tmp_path)


@pytest.mark.parametrize("left", [b"short", bytes(1 << 20)])
def test_a_stored_upload_counts_only_by_its_size_and_hash(
    machine: Machine, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(1 << 20))
    blob = Blob(path=machine.at("bin"), source=tmp_path / "source")
    (tmp_path / "state/blobs").mkdir(parents=True)
    # As a power cut leaves it: its name is on disk, its content is not.
    (tmp_path / f"state/blobs/{blob.contents()[0].sha256}").write_bytes(left)
    machine.apply_twice(blob)
    assert (tmp_path / "bin").read_bytes() == (tmp_path / "source").read_bytes()


def test_an_upload_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(1000)
    name = f"{tmp_path}/{hashlib.sha256(data).hexdigest()}"
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        order.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))[-5:]}")
        fsync(fd)

    def renamed(source: str, target: str) -> None:
        order.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    with _Sink(name, os.path.basename(name), 0, {}) as write:
        write(data)
    assert order == ["sync .part", "rename", f"sync {tmp_path.name[-5:]}"]
    assert Path(name).read_bytes() == data
