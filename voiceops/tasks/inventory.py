"""``inv inventory``: hosts, groups and variables, as ansible-inventory prints them."""

from __future__ import annotations

from voiceops.cli.command import CommandRun, Report, command


@command(
    "limit",
    name="inventory",
    help={
        "list_": "All groups, hosts and variables as JSON, as `ansible-inventory --list` prints them.",
        "graph": "The tree of groups and hosts (the default).",
        "host": "The variables of one host as JSON.",
        "group": "Where the tree of --graph starts.",
        "vars_": "With --graph: the variables, too.",
    },
)
def show_inventory(
    run: CommandRun,
    list_: bool = False,
    graph: bool = False,
    host: str = "",
    group: str = "",
    vars_: bool = False,
) -> Report:
    """Show the inventory as it is resolved; literal secrets are masked.

    Example: inv inventory --graph, inv inventory --host localhost
    """
    from voiceops.commands.inventory import inventory_report

    return inventory_report(run, as_list=list_, graph=graph, host=host, group=group, with_variables=vars_)
