"""What test hosts need of the kernel: cgroups, networks, mounts."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

_NETWORKS = [f"10.77.{third}" for third in range(256)] + [f"172.29.{third}" for third in range(256)]


def mac_address(bridge: str, number: int) -> str:
    """A locally administered address for the bridge (1) or a host on it."""
    return ":".join(f"{byte:02x}" for byte in (2, *bytes.fromhex(bridge[2:]), 0, number))


def free_network() -> str:
    answers = (checked("ip", "-j", "-4", "address"), checked("ip", "-j", "-4", "route"))
    taken = {entry["local"] for link in json.loads(answers[0]) for entry in link["addr_info"]}
    taken |= {route["dst"] for route in json.loads(answers[1])}
    for network in _NETWORKS:
        if not any(address.startswith(network + ".") for address in taken):
            return network
    raise AssertionError("no free network for test hosts")


def cgroup_root() -> Path:
    """Where cgroup version 2 is mounted: on its own, or beside version 1."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, place, kind, *_rest = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("cgroup version 2 is not mounted")


def kill_cgroup(cgroup: Path) -> None:
    if not cgroup.exists():
        return
    (cgroup / "cgroup.kill").write_text("1")
    ends_at = time.monotonic() + 30
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        if time.monotonic() > ends_at:
            raise AssertionError(f"processes in {cgroup} survive SIGKILL")
        time.sleep(0.005)


def remove_cgroup(cgroup: Path) -> None:
    if cgroup.exists():
        for folder, _folders, _files in os.walk(cgroup, topdown=False):
            os.rmdir(folder)


def umount_below(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed([place for place in mounts if place.startswith(f"{folder}/")]):
        checked("umount", "--lazy", place)


def ip(*arguments: str) -> str:
    return checked("ip", *arguments)


def checked(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=300).stdout
