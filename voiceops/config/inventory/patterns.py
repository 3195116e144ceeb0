"""Ansible's host patterns: ``web:&prod:!web3``, ``web*``, ``~regex``, ``group[0]``, ``group[1:3]``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from voiceops.config.inventory.hostnames import split_port
from voiceops.config.inventory.model import LOCAL_NAMES, Inventory
from voiceops.errors import UsageError

_PARTS = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")
_SUBSCRIPT = re.compile(r"(.+)\[(?:(-?[0-9]+)|([0-9]+)[:-]([0-9]*))\]")
_GLOB = frozenset(".?*[")


def split_pattern(pattern: str) -> list[str]:
    """The single patterns of a list by commas, or else by colons."""
    if "," in pattern:
        parts = pattern.split(",")
    elif split_port(pattern) is not None:
        parts = [pattern]
    else:
        parts = _PARTS.findall(pattern)
    return [part.strip() for part in parts if part.strip()]


def match(inventory: Inventory, pattern: str) -> list[str]:
    """The hosts that a pattern selects, each once; empty when it selects none.

    First what is named, then ``&`` narrows it, then ``!`` takes away, whatever the order they are
    written in. Raises ``UsageError`` for a broken regular expression or an index beyond the end.
    """
    parts = split_pattern(pattern)
    named = [part for part in parts if part[0] not in "&!"] or ["all"]
    found: dict[str, None] = {}
    for part in named:
        found.update(dict.fromkeys([part] if part in inventory.hosts else _match_one(inventory, part)))
    for part in parts:
        if part[0] == "&":
            keep = set(_match_one(inventory, part[1:]))
            found = {host: None for host in found if host in keep}
    for part in parts:
        if part[0] == "!":
            drop = set(_match_one(inventory, part[1:]))
            found = {host: None for host in found if host not in drop}
    return list(found)


def _match_one(inventory: Inventory, pattern: str) -> list[str]:
    if not pattern:
        raise UsageError("an empty host pattern", hint="write a name after & and !")
    if pattern[0] == "~":
        return _matches(inventory, pattern)
    subscript = _SUBSCRIPT.fullmatch(pattern)
    if subscript is None:
        return _matches(inventory, pattern)
    expression, index, first, last = subscript.groups()
    hosts = _matches(inventory, expression)
    if not hosts:
        return hosts
    if index is not None:
        start, end = int(index), 0
    elif last:
        start, end = int(first), int(last)
    else:
        return hosts[int(first) :]
    if end:
        return hosts[start : end + 1]
    try:
        return [hosts[start]]  # as Ansible: `group[0:0]` and `group[2:0]` are one host, too
    except IndexError:
        raise UsageError(
            f"pattern {pattern!r} asks for a host beyond the end",
            hint=f"{expression!r} has {len(hosts)} hosts",
        ) from None


def _matches(inventory: Inventory, pattern: str) -> list[str]:
    groups = _filter(inventory.groups, pattern)
    found = [host for group in groups for host in inventory.hosts_of(group)]
    if not groups or pattern[0] == "~" or not _GLOB.isdisjoint(pattern):
        found.extend(_filter(inventory.hosts, pattern))
    if not found and pattern in LOCAL_NAMES:
        declared = [host for host in inventory.hosts if host in LOCAL_NAMES]
        return declared[:1] or [pattern]
    return found


def _filter(names: Iterable[str], pattern: str) -> list[str]:
    try:
        shape = re.compile(pattern[1:] if pattern[0] == "~" else fnmatch.translate(pattern))
    except re.error as error:
        raise UsageError(f"host pattern {pattern!r} is no regular expression: {error}") from None
    return [name for name in names if shape.match(name)]
