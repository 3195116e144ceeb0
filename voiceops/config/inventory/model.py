"""Groups, hosts and their variables, resolved as Ansible does with ``hash_behaviour=merge``.

``Inventory`` is built by ``sources`` and only read afterwards. The order of merges is
Ansible's default precedence: ``all``, the groups by depth, priority and name, then the
group_vars files in the same order, then the host, then its host_vars files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Literal

from voiceops.config.source.located import LocatedMapping, SourceLocation, merged

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names that stand for this machine even when no source mentions them."""

_INTERNAL = (
    "ansible_async_path ansible_collection_name ansible_config_file ansible_dependent_role_names"
    " ansible_diff_mode ansible_facts ansible_forks ansible_inventory_sources ansible_limit"
    " ansible_play_batch ansible_play_hosts ansible_play_hosts_all ansible_play_role_names"
    " ansible_playbook_python ansible_role_name ansible_role_names ansible_run_tags ansible_skip_tags"
    " ansible_verbosity ansible_version inventory_dir inventory_file inventory_hostname"
    " inventory_hostname_short groups group_names hostvars playbook_dir play_hosts role_name role_names"
    " role_path role_uuid"
)
INTERNAL = frozenset(_INTERNAL.split())
"""Names that Ansible owns: it drops them from what ansible-inventory prints."""

FileVars = Callable[[Literal["group", "host"], str], tuple[LocatedMapping, ...]]
"""The contents of the files of group_vars/ or host_vars/ for a name, weakest first."""


@dataclass(slots=True)
class InventoryGroup:
    """A group while the inventory is being read."""

    name: str
    vars: LocatedMapping = field(default_factory=LocatedMapping)
    children: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    priority: int = 1


@dataclass(slots=True)
class InventoryHost:
    """A host while the inventory is being read."""

    name: str
    vars: LocatedMapping = field(default_factory=LocatedMapping)
    groups: list[str] = field(default_factory=list)
    """The groups that name it, not their ancestors."""
    place: SourceLocation | None = None


class Inventory:
    """What the sources declare; call ``reconcile`` once after reading."""

    def __init__(self, file: Path, folder: Path, file_vars: FileVars) -> None:
        self.file = file
        self.folder = folder
        """Where host_vars/, group_vars/, .env and .voiceops/ are."""
        self.file_vars = file_vars
        self.groups: dict[str, InventoryGroup] = {}
        self.hosts: dict[str, InventoryHost] = {}
        self._merged_groups: dict[tuple[str, ...], LocatedMapping] = {}
        self.add_group("all")
        self.add_group("ungrouped")
        self.groups["all"].children.append("ungrouped")
        self.groups["ungrouped"].parents.append("all")

    # Building

    def add_group(self, name: str) -> InventoryGroup:
        """The group of that name, made when it is new."""
        return self.groups.setdefault(name, InventoryGroup(name))

    def add_host(self, name: str, group: str, *, place: SourceLocation, port: int | None = None) -> None:
        """Put a host into a group; a port counts only where the host is first named."""
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = InventoryHost(name, place=place)
            if port is not None:
                host.vars = LocatedMapping({"ansible_port": port}, {"ansible_port": place})
        if name not in self.groups[group].hosts:
            self.groups[group].hosts.append(name)
            host.groups.append(group)

    def set_variable(self, entity: str, name: Any, value: Any, place: SourceLocation) -> None:
        """Give a group, else a host, a variable; a dict is merged into the one it already has."""
        if entity in self.groups and name == "ansible_group_priority":
            try:
                self.groups[entity].priority = int(value)
            except (TypeError, ValueError):
                raise place.error(f"ansible_group_priority must be a number, not {value!r}") from None
            return
        target: InventoryGroup | InventoryHost = (
            self.groups[entity] if entity in self.groups else self.hosts[entity]
        )
        target.vars = merged(target.vars, LocatedMapping({name: value}, {name: place}))

    def add_child(self, parent: str, child: str, place: SourceLocation) -> None:
        """Put a group under another; ``ConfigError`` when that makes a loop."""
        if child in self.groups[parent].children:
            return
        if parent == child or child in self.ancestors(parent):
            raise place.error(
                f"group {child!r} would be inside itself",
                hint=f"{parent!r} is already below {child!r}" if parent != child else None,
            )
        self.groups[parent].children.append(child)
        self.groups[child].parents.append(parent)

    def reconcile(self) -> None:
        """Every group descends from ``all``; hosts in no other group are in ``ungrouped``."""
        for group in self.groups.values():
            if group.name != "all" and not group.parents:
                self.groups["all"].children.append(group.name)
                group.parents.append("all")
        ungrouped = self.groups["ungrouped"]
        for host in self.hosts.values():
            others = self.groups_of(host.name) - {"all", "ungrouped"}
            if others and host.name in ungrouped.hosts:
                ungrouped.hosts.remove(host.name)
                host.groups.remove("ungrouped")
            elif not others and host.name not in ungrouped.hosts:
                ungrouped.hosts.append(host.name)
                host.groups.append("ungrouped")

    # Reading

    def ancestors(self, group: str) -> set[str]:
        """All groups above a group."""
        found: set[str] = set()
        todo = list(self.groups[group].parents)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(self.groups[name].parents)
        return found

    def groups_of(self, host: str) -> set[str]:
        """All groups that contain a host, ``all`` included; none for a host of no source."""
        declared = self.hosts.get(host)
        if declared is None:
            return {"all"}
        direct = set(declared.groups)
        return direct.union({"all"}, *(self.ancestors(group) for group in direct))

    @cached_property
    def _depths(self) -> dict[str, int]:
        depths: dict[str, int] = {}

        def depth(name: str) -> int:
            if name not in depths:
                depths[name] = max((depth(parent) + 1 for parent in self.groups[name].parents), default=0)
            return depths[name]

        for name in self.groups:
            depth(name)
        return depths

    def merge_order(self, groups: set[str]) -> list[str]:
        """Groups in the order in which their variables are merged, weakest first."""
        return sorted(groups, key=lambda name: (self._depths[name], self.groups[name].priority, name))

    def hosts_of(self, group: str) -> list[str]:
        """The hosts of a group and of all groups below it, each once, level by level."""
        found: dict[str, None] = {}
        for name in self.descendants(group):
            found.update(dict.fromkeys(self.groups[name].hosts))
        return list(found)

    def descendants(self, group: str) -> Iterator[str]:
        """A group and all groups below it, each once, level by level."""
        seen = {group}
        level = [group]
        while level:
            yield from level
            level = list(dict.fromkeys(c for g in level for c in self.groups[g].children if c not in seen))
            seen.update(level)

    def variables(self, host: str) -> LocatedMapping:
        """All variables of a host, without the names that Ansible owns.

        A name of no source gets the variables of ``all``, as Ansible's implicit localhost does.
        """
        order = tuple(self.merge_order(self.groups_of(host) - {"all"}))
        if order not in self._merged_groups:
            self._merged_groups[order] = self._group_variables(order)
        result = self._merged_groups[order]
        if host in self.hosts:
            result = merged(result, self.hosts[host].vars)
        result = merged(result, self._files("host", host))
        if INTERNAL.isdisjoint(result):
            return result
        return LocatedMapping({k: v for k, v in result.items() if k not in INTERNAL}, result.places)

    def _files(self, kind: Literal["group", "host"], *names: str) -> LocatedMapping:
        return reduce(
            merged, (content for name in names for content in self.file_vars(kind, name)), LocatedMapping()
        )

    def _group_variables(self, order: tuple[str, ...]) -> LocatedMapping:
        # The groups are combined before they go over `all`, and so are their files, one by one:
        # merging is not associative.
        inline = reduce(merged, (self.groups[name].vars for name in order), LocatedMapping())
        result = merged(self.groups["all"].vars, inline)
        return merged(merged(result, self._files("group", "all")), self._files("group", *order))

    def variables_of_group(self, group: str) -> LocatedMapping:
        """What a group itself declares, inline and in group_vars/."""
        own = merged(self.groups[group].vars, self._files("group", group))
        return LocatedMapping({k: v for k, v in own.items() if k not in INTERNAL}, own.places)
