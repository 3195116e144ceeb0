"""Draw README's terminal picture from what the program really prints: `python docs/pictures/make.py`.

Types the commands into a tmux window in a scaffolded project, and saves the screen as SVG. Needs tmux.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
INV = HERE.parent.parent / "inv"
WIDTH, HEIGHT = 104, 60
COMMANDS = (
    "./inv start livekit agent",
    "./inv call",
    "# somebody kills the agent",
    "./inv why",
    "./inv recover",
)
TIMEOUT_S = 180


def tmux(socket: str, *arguments: str) -> str:
    """One command to a tmux server of our own."""
    done = subprocess.run(["tmux", "-L", socket, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def type_commands(socket: str, folder: Path) -> str:
    """The screen, colours included, after all commands have run."""
    shell = "env -i HOME=$HOME PATH=$PATH TERM=xterm-256color PS1='$ ' bash --norc --noprofile"
    tmux(socket, "new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), "-c", str(folder), shell)
    time.sleep(0.5)  # what is typed before the prompt is drawn would stand in front of it
    for number, command in enumerate(COMMANDS):
        if command.startswith("#"):
            os.kill(agent_pid(folder), signal.SIGKILL)
        done = folder / f".done-{number}"
        tmux(socket, "send-keys", "-l", command)
        tmux(socket, "send-keys", "Enter")
        tmux(socket, "send-keys", "-l", f" touch {done.name}; tput cuu1; tput el")
        tmux(socket, "send-keys", "Enter")
        ends_at = time.monotonic() + TIMEOUT_S
        while not done.exists():
            if time.monotonic() > ends_at:
                raise SystemExit(f"{command} did not end")
            time.sleep(0.1)
        time.sleep(0.3)
    return tmux(socket, "capture-pane", "-e", "-p", "-S", "-")


def agent_pid(folder: Path) -> int:
    """The agent's pid as check-running names it."""
    shown = subprocess.run(["./inv", "check-running", "--json"], cwd=folder, capture_output=True, text=True)
    return int(json.loads(shown.stdout)["hosts"]["localhost"]["services"]["agent"]["pids"][0])


def main() -> int:
    """Write terminal.svg beside this file."""
    socket = f"voiceops-picture-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="frontdesk-") as name:
        folder = Path(name)
        subprocess.run([str(INV), "init"], cwd=folder, check=True, capture_output=True)
        try:
            screen = type_commands(socket, folder)
        finally:
            subprocess.run(["tmux", "-L", socket, "kill-server"], capture_output=True)
            subprocess.run(["./inv", "stop", "--now", "--yes"], cwd=folder, capture_output=True)
    lines = [line for line in screen.rstrip().splitlines() if "touch .done-" not in line]
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=WIDTH, force_terminal=True, file=nowhere)
        console.print(Text.from_ansi("\n".join(lines)))
        picture = console.export_svg(title="voiceops")
    # rich names a font on somebody's server; any monospaced one will do.
    (HERE / "terminal.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))
    return 0


if __name__ == "__main__":
    sys.exit(main())
