"""open: the page on which people call the agent, and the operators' dashboard."""

from __future__ import annotations

from voiceops.cli.command import CommandRun, Report, command


@command(name="open", help={"url": "Print the address only.", "ops": "The operators' dashboard."})
def open_page(run: CommandRun, url: bool = False, ops: bool = False) -> Report:
    """Open the page of this machine's stack in a browser; without a display it prints the address.

    The page is a service of kind web; with --ops it is the dashboard of services, rooms, calls and incidents, for
    whoever is on this machine. Example: inv open --ops
    """
    from voiceops.commands.page import show_page

    return show_page(run, address_only=url, dashboard=ops)
