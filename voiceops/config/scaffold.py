"""A new project: ``plan`` says what its files hold, ``write`` makes those that don't exist."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from voiceops.config.project_ports import ProjectPorts
from voiceops.config.shipped import checkout, shipped
from voiceops.errors import StorageError, UsageError
from voiceops.util.suggest import did_you_mean

TASKS = '''"""The commands of this project: `./inv --list` shows them. Add tasks of your own below."""

from voiceops.tasks import namespace

__all__ = ["namespace"]
'''
GITIGNORE = ".env\n.voiceops/\n__pycache__/\n"
INV = """#!/bin/sh
# Runs voiceops for this project, from any folder: the one that the project was made with,
# else the one on PATH.
set -u

self=$0
while [ -h "$self" ]; do
    link=$(readlink "$self")
    case $link in
    /*) self=$link ;;
    *) self=${self%/*}/$link ;;
    esac
done
case $self in
*/*) project=$(cd "${self%/*}" && pwd -P) ;;
*) project=$(pwd -P) ;;
esac || exit 1

made_with=@MADE_WITH@
[ -f "$made_with" ] && [ -x "$made_with" ] && exec "$made_with" @MODULE@--project "$project" --invoked-as "$0" "$@"
command -v voiceops >/dev/null 2>&1 && exec voiceops --project "$project" --invoked-as "$0" "$@"
python3 -c 'import voiceops' 2>/dev/null && exec python3 -m voiceops --project "$project" --invoked-as "$0" "$@"
echo "error: $made_with is gone, and there is no other voiceops on PATH" >&2
echo "hint: install it again (pip install voiceops), or write its place into $project/inv" >&2
exit 1
"""


PROFILES = {"agent": "inventory.yaml", "letta": "examples/letta/inventory.yaml"}
"""What ``inv init --profile`` makes: the inventory of each; its agent is in the folder of its name in ``examples/``."""


def sample_inventory(profile: str) -> str:
    """The text of the shipped inventory of a profile; ``UsageError`` for one that there is not."""
    if profile not in PROFILES:
        raise UsageError(
            f"there is no profile {profile!r}",
            hint=did_you_mean(profile, PROFILES),
        )
    return shipped(PROFILES[profile]).read_text(encoding="utf-8")


def plan(name: str, ports: ProjectPorts, profile: str) -> dict[str, str]:
    """The files of a project by relative path."""
    inventory = ports.written_into(sample_inventory(profile))
    files = {
        "inventory.yaml": inventory.replace("project: frontdesk", f"project: {name}").replace(
            "entry: examples/agent/", "entry: agent/"
        ),
        "tasks.py": TASKS,
        "inv": _inv(),
        ".env.example": shipped(".env.example").read_text(encoding="utf-8"),
        ".gitignore": GITIGNORE,
    }
    for source in sorted(shipped(f"examples/{profile}").glob("*.py")):
        files[f"agent/{source.name}"] = source.read_text(encoding="utf-8")
    return files


def write(folder: Path, files: Mapping[str, str], *, force: bool) -> dict[str, bool]:
    """Make the files that are missing; True for those. Nothing is ever overwritten.

    A folder that holds anything else needs ``force``, unless nothing is missing.
    """
    missing = [name for name in files if not (folder / name).exists()]
    ours = {Path(name).parts[0] for name in files} | {".git", ".env", ".voiceops", "__pycache__"}
    try:
        foreign = sorted({entry.name for entry in folder.iterdir()} - ours)
        if missing and foreign and not force:
            raise UsageError(
                f"{folder} is not empty: it holds {', '.join(foreign[:5])}",
                hint="use an empty folder, or `inv init --yes` to add the missing files and touch nothing else",
            )
        for name in missing:
            _create(folder / name, files[name])
    except OSError as error:
        raise StorageError(f"can't make a project in {folder}: {error.strerror or error}") from error
    return {name: name in missing for name in files}


def project_name(folder: Path) -> str:
    """A valid project name from the folder's: small letters, digits, ``-`` and ``_``."""
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_")
    return name if re.match(r"[a-z]", name) else f"voice-{name}".rstrip("-")


def _inv() -> str:
    root = checkout()
    if root is not None:
        made_with, module = root / "inv", ""
    else:
        script = Path(sys.executable).with_name("voiceops")
        made_with, module = (script, "") if script.exists() else (Path(sys.executable), "-m voiceops ")
    return INV.replace("@MADE_WITH@", shlex.quote(str(made_with))).replace("@MODULE@", module)


def _create(path: Path, content: str) -> None:
    """By a temporary file, so that an interrupted run leaves a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(content, encoding="utf-8")
        fresh.chmod(0o755 if path.name == "inv" else 0o644)
        os.link(fresh, path)  # fails where a rename would overwrite
    except FileExistsError:
        pass
    finally:
        fresh.unlink(missing_ok=True)
