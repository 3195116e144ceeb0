"""A large upload that a killed deployer left half made: the next deploy goes on with it, or begins anew."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from tests.support import hosts, parts
from tests.support.servers import PROJECT, Servers, cheap_servers

PART_BYTES = 10_000_000


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    copy = tmp_path / "livekit-server"
    copy.write_bytes(parts.livekit_server_binary().read_bytes())
    copy.chmod(0o755)
    return copy


@pytest.fixture
def cut(tmp_path: Path, fresh_host: hosts.Machine, binary: Path) -> Servers:
    """A project whose first deploy was killed in the middle of its upload."""
    service = {"kind": "livekit", "binary": str(binary)}
    servers = cheap_servers(tmp_path / "project", [fresh_host], livekit=service)
    with fresh_host.delayed(round_trip_ms=60):
        process = servers.spawn("deploy", "--group", "servers")
        try:
            ends_at = time.monotonic() + 60
            while not any(part.stat().st_size > PART_BYTES for part in parts_of(fresh_host)):
                assert time.monotonic() < ends_at
                assert process.poll() is None, process.communicate()
                time.sleep(0.005)
        finally:
            process.kill()
            process.communicate()
    # The payload notices that nobody is there any more, and keeps what it has.
    fresh_host.shell(f"timeout 20 flock /var/lib/{PROJECT}/lock true")
    return servers


def parts_of(host: hosts.Machine) -> list[Path]:
    return list((host.root / f"var/lib/{PROJECT}/blobs").glob("*.part"))


def received(host: hosts.Machine) -> int:
    """Bytes that came over the wire so far."""
    return int(host.shell("cat /sys/class/net/host0/statistics/rx_bytes").stdout)


def finish(servers: Servers, host: hosts.Machine, binary: Path) -> int:
    """Deploy once more; how many bytes travelled."""
    before = received(host)
    servers.deploy()
    travelled = received(host) - before
    placed = host.shell(f"sha256sum /opt/{PROJECT}/bin/livekit-server").stdout.split()[0]
    assert placed == hashlib.sha256(binary.read_bytes()).hexdigest()
    assert host.shell(f"ls -A /var/lib/{PROJECT}/blobs").stdout == ""
    assert servers.deploy()["changed_count"] == 0
    return travelled


def test_an_upload_that_was_cut_goes_on_where_it_stopped(
    cut: Servers, fresh_host: hosts.Machine, binary: Path
) -> None:
    (part,) = parts_of(fresh_host)
    there, size = part.stat().st_size, binary.stat().st_size
    assert PART_BYTES < there < size
    travelled = finish(cut, fresh_host, binary)
    # Headers of packets and the rest of the deploy are less than half of what was there.
    assert size - there < travelled < size - there / 2


def test_an_upload_that_was_cut_and_damaged_is_sent_anew_and_needs_no_second_run(
    cut: Servers, fresh_host: hosts.Machine, binary: Path
) -> None:
    """As a power cut leaves it: the right length, zeros in the middle."""
    (part,) = parts_of(fresh_host)
    fresh_host.shell(
        f"dd if=/dev/zero of=/var/lib/{PROJECT}/blobs/{part.name} bs=4096 seek=100 count=8 conv=notrunc status=none"
    )
    assert finish(cut, fresh_host, binary) > binary.stat().st_size
