"""What ``ansible-inventory --list``, ``--graph`` and ``--host`` print, with literal secrets masked."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping

from voiceops.config.inventory.model import LOCAL_NAMES, Inventory
from voiceops.config.inventory.patterns import match
from voiceops.config.secrets import is_secret_name
from voiceops.config.source.located import UnsafeText
from voiceops.errors import UsageError
from voiceops.util.suggest import did_you_mean

MASK = "****"


def listed(inventory: Inventory, limit: str = "") -> dict[str, object]:
    """The document of ``--list``: groups with hosts and children, ``_meta`` with all variables."""
    names = match(inventory, limit) if limit else inventory.hosts_of("all")
    if limit and not names:
        raise UsageError(
            f"the pattern {limit!r} matches no host", hint="`inv inventory --graph` shows them all"
        )
    chosen = set(names)
    document: dict[str, object] = {}
    for name in inventory.descendants("all"):
        group = inventory.groups[name]
        hosts = [host for host in group.hosts if host in chosen] if name != "all" else []
        entry = {key: value for key, value in (("hosts", hosts), ("children", list(group.children))) if value}
        if entry:
            document[name] = entry
    variables = {name: shown(inventory.variables(name), mark_unsafe=True) for name in names}
    document["_meta"] = {
        "hostvars": {name: values for name, values in variables.items() if values},
        "profile": "inventory_legacy",
    }
    return document


def host_variables(inventory: Inventory, name: str) -> dict[str, object]:
    """The document of ``--host``: the variables of one host."""
    hosts = [name] if name in inventory.hosts else match(inventory, name)
    if len(hosts) != 1:
        raise UsageError(
            f"{name!r} is {len(hosts)} hosts of the inventory, not one",
            hint=None if hosts else did_you_mean(name, inventory.hosts),
        )
    values: dict[str, object] = shown(inventory.variables(hosts[0]), mark_unsafe=False)
    if hosts[0] in LOCAL_NAMES and hosts[0] not in inventory.hosts:
        values["ansible_connection"] = "local"
    return values


def graph(inventory: Inventory, start: str = "all", *, with_variables: bool = False) -> str:
    """The tree of ``--graph``, below a group."""
    if start not in inventory.groups:
        raise UsageError(f"there is no group {start!r}", hint=did_you_mean(start, inventory.groups))
    return "\n".join(_branch(inventory, start, 0, with_variables))


def _branch(inventory: Inventory, name: str, depth: int, with_variables: bool) -> Iterator[str]:
    group = inventory.groups[name]
    yield _line(f"@{name}:", depth)
    for child in group.children:
        yield from _branch(inventory, child, depth + 1, with_variables)
    for host in group.hosts if name != "all" else ():
        yield _line(host, depth + 1)
        if with_variables:
            yield from _variables(inventory.variables(host), depth + 2)
    if with_variables:
        own = dict(inventory.variables_of_group(name))
        if group.priority != 1:
            own["ansible_group_priority"] = group.priority
        yield from _variables(own, depth + 1)


def _variables(values: Mapping[object, object], depth: int) -> Iterator[str]:
    for name, value in sorted(values.items(), key=lambda item: str(item[0])):
        yield _line(f"{{{name} = {masked(name, value)}}}", depth)


def _line(text: str, depth: int) -> str:
    return "  |" * depth + ("--" if depth else "") + text


def shown(values: Mapping[object, object], *, mark_unsafe: bool) -> dict[str, object]:
    """Variables as JSON can carry them; text under the name of a secret is masked."""
    return {_key(name): _json(masked(name, value), mark_unsafe) for name, value in values.items()}


def masked(name: object, value: object) -> object:
    """A variable's value without the texts that stand under the name of a secret."""
    if isinstance(value, str) and value and is_secret_name(name):
        return MASK
    if isinstance(value, dict):
        return {key: masked(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(name, item) for item in value]
    return value


def _json(value: object, mark_unsafe: bool) -> object:
    if isinstance(value, UnsafeText) and mark_unsafe:
        return {"__ansible_unsafe": str(value)}
    if isinstance(value, dict):
        return {_key(key): _json(item, mark_unsafe) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item, mark_unsafe) for item in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def _key(key: object) -> str:
    # As json.dumps writes keys, so that text and other keys can be sorted together.
    if isinstance(key, str):
        return key
    return key.isoformat() if isinstance(key, datetime.date) else json.dumps(key)
