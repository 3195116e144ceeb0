"""open: the page on which people call the agent."""

from __future__ import annotations

from voiceops.cli.command import CommandRun, Report, command


@command(name="open", help={"url": "Print the address only."})
def open_page(run: CommandRun, url: bool = False) -> Report:
    """Open the page of this machine's stack in a browser; without a display it prints the address.

    The page is a service of kind web. Example: inv open
    """
    from voiceops.commands.page import show_page

    return show_page(run, address_only=url)
