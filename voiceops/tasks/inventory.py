"""``inv inventory``: hosts, groups and variables, as ansible-inventory prints them."""

from __future__ import annotations

from voiceops.cli.command import Report, Run, command
from voiceops.errors import UsageError


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
    run: Run, list_: bool = False, graph: bool = False, host: str = "", group: str = "", vars_: bool = False
) -> Report:
    """Show the inventory as it is resolved; literal secrets are masked.

    Example: inv inventory --graph, inv inventory --host localhost
    """
    import json

    from voiceops.config.inventory import listing
    from voiceops.config.project import find_inventory
    from voiceops.config.source.sources import read_inventory
    from voiceops.wiring.project import tasks_folder

    if sum((list_, graph, bool(host))) > 1:
        raise UsageError("--list, --graph and --host exclude each other")
    inventory = read_inventory(find_inventory(run.inventory, tasks_folder()))
    if host:
        data = listing.host_variables(inventory, host)
        return Report(data, json.dumps(data, sort_keys=True, indent=4))
    if list_ or (run.json and not graph):
        data = listing.listed(inventory, run.limit)
        return Report(data, json.dumps(data, sort_keys=True, indent=4))
    tree = listing.graph(inventory, group or "all", with_variables=vars_)
    return Report({"graph": tree.splitlines()}, tree)
