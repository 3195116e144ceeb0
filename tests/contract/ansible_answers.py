"""What the real Ansible says of inventories; run by a Python that has ansible-core.

One process answers for all: JSON jobs on stdin, JSON answers on stdout.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr
from typing import Any

os.environ["ANSIBLE_HASH_BEHAVIOUR"] = "merge"
os.environ["ANSIBLE_LOCALHOST_WARNING"] = "false"

from ansible import context
from ansible.cli.inventory import InventoryCLI
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.utils.context_objects import CLIArgs
from ansible.vars.manager import VariableManager

OPTIONS = {
    "basedir": None,
    "export": False,
    "pattern": "all",
    "show_vars": False,
    "toml": False,
    "yaml": False,
}


def answer(source: str, patterns: list[str], host: str) -> dict[str, Any]:
    """The documents of --list, --graph, --graph --vars, --host and the hosts of each pattern."""
    cli = InventoryCLI(["ansible-inventory"])
    cli.loader = DataLoader()
    cli.inventory = InventoryManager(loader=cli.loader, sources=[source])
    cli.vm = VariableManager(loader=cli.loader, inventory=cli.inventory, version_info={})
    if not cli.inventory.hosts:
        raise SystemExit(f"Ansible read no host from {source}")
    result: dict[str, Any] = {
        "list": json.loads(cli.dump(cli.json_inventory(cli._get_group("all")))),
        "host": json.loads(cli.dump(cli._get_host_variables(cli.inventory.get_host(host)))),
    }
    for name, with_variables in (("graph", False), ("graph_vars", True)):
        context.CLIARGS = CLIArgs(OPTIONS | {"show_vars": with_variables})
        result[name] = cli.inventory_graph()
    result["patterns"] = {pattern: _hosts(cli.inventory, pattern) for pattern in patterns}
    return result


def _hosts(inventory: Any, pattern: str) -> Any:
    try:
        return [host.name for host in inventory.get_hosts(pattern)]
    except AnsibleError:
        return "AnsibleError"


def main() -> None:
    """Answer the jobs on stdin."""
    context.CLIARGS = CLIArgs(OPTIONS)
    warnings = io.StringIO()
    with redirect_stderr(warnings):
        answers = [answer(**job) for job in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
