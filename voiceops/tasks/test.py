"""``inv test``: for work on voiceops itself, so only the checkout's own tasks.py has it."""

from __future__ import annotations

from voiceops.cli.command import CommandRun, Report, command


@command(
    name="test",
    help={
        "only": "checks, unit or integration; several with commas.",
        "fast": "Leave out the tests that wait more than half a minute for something real.",
        "k": "Only tests that match, as pytest's -k.",
        "repeat": "Run each selected test so many times, to find what fails now and then.",
    },
)
def run_tests(run: CommandRun, only: str = "", fast: bool = False, k: str = "", repeat: int = 1) -> Report:
    """Run linters, types, floors and all tests; installs what they need.

    Exit code 1 also for a test that fails and then passes.

    Example: inv test --only unit -k cleanup
    """
    from voiceops.commands.test import run_stages

    return run_stages(run, only=only, fast=fast, k=k, repeat=repeat)
