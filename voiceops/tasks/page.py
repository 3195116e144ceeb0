"""open: the page on which people call the agent, and the operators' dashboard."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command


@command(
    *TARGETS,
    name="open",
    help={
        "url": "Print the address only.",
        "ops": "The operators' dashboard.",
        "port": "Port of a server's dashboard on this machine (0: any free one).",
    },
)
def open_page(run: CommandRun, url: bool = False, ops: bool = False, port: int = 0) -> Report | None:
    """Open the page of a stack in a browser; without a display it prints the address.

    The page is a service of kind web; with --ops it is the dashboard of services, rooms, calls and incidents, for
    whoever is on this machine. The dashboard of servers is served here until Ctrl-C. Example: inv open --ops --host voice1
    """
    from voiceops.commands import page

    return page.open_page(run, address_only=url, dashboard=ops, port=port)
