"""completion: Tab in bash, zsh and fish."""

from __future__ import annotations

from voiceops.cli.command import CommandRun, Report, command


@command(
    help={
        "shell": "bash, zsh or fish (default: the one of $SHELL).",
        "install": "Write it where the shell reads it at its next start.",
    }
)
def completion(run: CommandRun, shell: str = "", install: bool = False) -> Report:
    """Print or install the completion of commands, flags, services, hosts and rooms.

    Works for inv, ./inv and voiceops. Example: inv completion --install
    """
    from voiceops.commands.completion import completion_script

    return completion_script(shell, install=install)
