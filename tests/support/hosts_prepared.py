"""Hosts that ``inv setup`` has prepared for an agent, without the half minute that this takes.

Setup runs once on a bare host; what it changed there is kept as a layer of the file system, which lies over
the root file system of each prepared host. A layer is named by what goes into it: the root file system, the
locked requirements and voiceops itself. Layers are kept in the user's cache, up to ``LIMIT_BYTES``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support import hosts, parts
from tests.support.hosts_kernel import checked
from tests.support.hosts_rootfs import locked, rootfs
from tests.support.servers import Servers, agent_servers
from voiceops.config.shipped import shipped
from voiceops.deploy.own_wheel import own_wheel

LIMIT_BYTES = 3_000_000_000
"""Of all layers: about five. The ones that were used last stay."""
OWN_TO_EACH_HOST = (
    *("etc/machine-id", "etc/hostname", "etc/hosts", "etc/systemd/network/10-host0.network"),
    *("root/.ssh", "home", "run", "tmp", "var/tmp", "var/log", "var/lib/systemd", "var/lib/dbus"),
)
"""What of a host is not to be found on another one; its ssh keys besides."""
_AGENT = Path(__file__).parents[1] / "integration" / "agents" / "tone.py"


@contextmanager
def agent_layer(run: hosts.HostRun) -> Iterator[Path]:
    """The layer of a host that is prepared for an agent; built first where there is none. It stays while in use."""
    folder = parts.cache_folder() / "hosts" / "prepared"
    ready = folder / _key()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as until_unused:
        with locked(folder / "lock"):
            in_use = until_unused.enter_context(_lock_file(ready).open("a"))
            fcntl.flock(in_use, fcntl.LOCK_SH)
            if not ready.exists():
                _build(run, ready)
                limit_layers(folder, keep=ready)
            os.utime(ready)
        yield ready


def agent_project(folder: Path, host: hosts.Machine) -> Servers:
    """The project that a prepared host was set up for: an agent and nothing else."""
    servers = agent_servers(folder, [host], _AGENT)
    del servers.variables["services"]["livekit"]
    servers.variables["services"]["agent"]["needs"] = []
    servers.write()
    return servers


def _key() -> str:
    own = own_wheel(parts.cache_folder() / "wheels")
    recipe = (rootfs().name, shipped("requirements.lock").read_text(), own.content.sha256, OWN_TO_EACH_HOST)
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]


def _build(run: hosts.HostRun, ready: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="voiceops-prepare-") as project, run.cluster(1) as (host,):
        agent_project(Path(project), host).inv("setup", "--group", "servers", timeout_s=600)
        host.power_off()
        upper = host.folder / "upper"
        for path in (*(upper / name for name in OWN_TO_EACH_HOST), *upper.glob("etc/ssh/ssh_host_*")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        building = ready.with_name(f"{ready.name}.building")
        shutil.rmtree(building, ignore_errors=True)  # of a run that died: only the holder of the lock is here
        checked("cp", "-a", str(upper), str(building))
    building.rename(ready)


def limit_layers(folder: Path, *, keep: Path, limit_bytes: int = LIMIT_BYTES) -> None:
    """Remove layers beyond the limit, the longest unused first; not ``keep``, and none that a run uses."""
    layers = sorted((one for one in folder.iterdir() if one.is_dir()), key=lambda one: -one.stat().st_mtime)
    total = 0
    for layer in layers:
        total += _size(layer)
        if total <= limit_bytes or layer == keep:
            continue
        with _lock_file(layer).open("a") as in_use:
            try:
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(layer)
            _lock_file(layer).unlink()


def _lock_file(layer: Path) -> Path:
    """Shared by the runs that use the layer; opened and removed only under the folder's own lock."""
    return layer.with_name(f"{layer.name}.lock")


def _size(folder: Path) -> int:
    done = subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout.split()[0]) * 1024
