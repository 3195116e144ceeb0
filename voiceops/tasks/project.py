"""init."""

from __future__ import annotations

from voiceops.cli.command import CommandRun, Report, command


@command(
    "yes",
    help={
        "profile": "What it starts with: agent; or letta, an agent that remembers, with PostgreSQL, Letta and the page.",
        "yes": "Add the missing files to a folder that holds other things; overwrites nothing.",
    },
)
def init(run: CommandRun, profile: str = "agent") -> Report:
    """Make a project in the current folder: inventory.yaml, tasks.py, an agent, ./inv, keys in .env.

    Writes only what is missing, so it can be run again. Example: inv init --profile letta
    """
    from voiceops.commands.project import make_project

    return make_project(profile=profile, force=run.yes)
