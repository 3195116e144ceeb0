"""Hosts, groups and variables, as ansible-inventory prints them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from voiceops.cli.command import CommandRun, Report
from voiceops.config.inventory import listing
from voiceops.config.project import find_inventory
from voiceops.config.source.sources import read_inventory
from voiceops.errors import UsageError
from voiceops.wiring.project import tasks_folder

if TYPE_CHECKING:
    from voiceops.model.documents.project import (
        InventoryDocument,
        InventoryGraphDocument,
        InventoryHostDocument,
    )


def inventory_report(
    run: CommandRun, *, as_list: bool, graph: bool, host: str, group: str, with_variables: bool
) -> Report:
    """The variables of one host, the list of everything, or the tree of groups."""
    if sum((as_list, graph, bool(host))) > 1:
        raise UsageError("--list, --graph and --host exclude each other")
    inventory = read_inventory(find_inventory(run.inventory, tasks_folder()))
    if host:
        data = listing.host_variables(inventory, host)
        of_host: InventoryHostDocument = {"host": host, "variables": data}
        return Report(of_host, json.dumps(data, sort_keys=True, indent=4))
    if as_list or (run.json and not graph):
        data = listing.listed(inventory, run.limit)
        whole: InventoryDocument = {"inventory": data}
        return Report(whole, json.dumps(data, sort_keys=True, indent=4))
    tree = listing.graph(inventory, group or "all", with_variables=with_variables)
    document: InventoryGraphDocument = {"graph": tree.splitlines()}
    return Report(document, tree)
