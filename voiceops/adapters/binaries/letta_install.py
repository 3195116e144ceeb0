"""Builds Letta's environment, once, in the user's cache: 800 MB."""

from __future__ import annotations

import sys
from pathlib import Path

from voiceops.adapters.binaries.cached import build_once, run_uv
from voiceops.adapters.binaries.progress import OnProgress, Progress
from voiceops.errors import ConfigError

LOCK = Path(__file__).with_name("letta.lock")
"""Complete but for psycopg2, which has no wheels and needs a compiler: psycopg2-binary is the same module; and with
uvloop: on asyncio's own loop, Letta's second answer in a conversation with an OpenAI-compatible model never comes."""
PYTHONS = ((3, 11), (3, 13))


def install(folder: Path, on_progress: OnProgress) -> None:
    """Make ``folder`` an environment with what is locked."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise ConfigError("Letta runs on Python 3.11 to 3.13", hint="run voiceops on one of them")

    def build(building: Path) -> None:
        on_progress(Progress(doing="building the environment of Letta"))
        run_uv(
            ["venv", "--quiet", "--relocatable", "--clear", "--python", sys.executable, str(building)],
            "Letta",
        )
        python = ["--python", str(building / "bin" / "python")]
        run_uv(
            ["pip", "install", "--quiet", "--no-deps", "--require-hashes", *python, "-r", str(LOCK)], "Letta"
        )

    build_once(folder, "Letta", build, on_progress)
