"""Inventory sources: a YAML or JSON file, an executable, or a folder of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from voiceops.config.inventory.hostnames import expand
from voiceops.config.inventory.model import Inventory
from voiceops.config.source.located import LocatedList, LocatedMapping, SourceLocation, located
from voiceops.config.source.varsfiles import EXTENSIONS, vars_files
from voiceops.config.source.yamlfile import ini_hint, read_yaml
from voiceops.errors import ConfigError
from voiceops.util.suggest import did_you_mean

SCRIPT_TIMEOUT_S = 60.0
_SECTIONS = ("vars", "children", "hosts")
_IGNORED = re.compile(
    r"^\.|^(host_vars|group_vars|vars_plugins)$|(~|\.(pyc|pyo|swp|bak|rpm|md|txt|rst|orig|cfg|retry))$"
)


def read_inventory(path: Path) -> Inventory:
    """Read an inventory file, executable or folder; ``ConfigError`` names what is wrong where.

    Unlike Ansible, which warns and goes on, a source that can't be read or holds something
    unexpected is an error: half an inventory must not pass for the whole.
    """
    path = path.absolute()
    folder = path if path.is_dir() else path.parent
    inventory = Inventory(path, folder, vars_files(folder))
    if path.is_dir():
        if not _read_folder(inventory, path):
            raise ConfigError("the folder holds no inventory source", file=os.path.relpath(path))
    elif not path.exists():
        raise ConfigError("there is no such inventory", file=os.path.relpath(path))
    else:
        _read_source(inventory, path, alone=True)
    inventory.reconcile()
    return inventory


def _read_folder(inventory: Inventory, folder: Path) -> int:
    count = 0
    for entry in sorted(os.listdir(folder)):
        if _IGNORED.search(entry):
            continue
        path = folder / entry
        if path.is_dir():
            count += _read_folder(inventory, path)
        else:
            _read_source(inventory, path, alone=False)
            count += 1
    return count


def _read_source(inventory: Inventory, path: Path, *, alone: bool) -> None:
    shown = os.path.relpath(path)
    if os.access(path, os.X_OK) and not _only_marked_executable(path):
        _read_script(inventory, path, shown)
        return
    if path.suffix not in ("", *EXTENSIONS):
        hint = (
            ini_hint(shown)
            if path.suffix == ".ini"
            else "inventories end in .yaml, .yml, .json or are executable"
        )
        raise ConfigError(f"{path.suffix} is no ending of an inventory", file=shown, hint=hint)
    content = read_yaml(path, shown)
    if content is None and not alone:
        return
    if not isinstance(content, LocatedMapping) or not content:
        what = "is empty" if not content else "must be a mapping of groups"
        hint = ini_hint(shown) if isinstance(content, LocatedList | str) else "start with `all:`"
        raise SourceLocation(shown, 1).error(f"the inventory {what}", hint=hint)
    if content.get("plugin"):
        raise content.places["plugin"].error(
            "configurations of Ansible's inventory plugins are not supported",
            hint="use an executable that prints `ansible-inventory --list`",
        )
    for name, value in content.items():
        _read_group(inventory, name, value, content.places[name], (name,))


def _only_marked_executable(path: Path) -> bool:
    """A YAML file with an executable bit (a Windows share sets it on all files) is still YAML."""
    if path.suffix not in EXTENSIONS:
        return False
    with path.open("rb") as file:
        return file.read(2) != b"#!"


# A YAML file


def _read_group(
    inventory: Inventory, name: object, value: object, place: SourceLocation, path: tuple[object, ...]
) -> None:
    if not isinstance(name, str) or not name:
        raise place.error(f"a group's name must be text, not {name!r}", hint="quote it")
    if value is not None and not isinstance(value, LocatedMapping):
        raise place.error(f"group {name!r} must be a mapping with hosts, vars or children")
    inventory.add_group(name)
    for key, section in (value or LocatedMapping()).items():
        here = value.places[key] if value else place
        if key not in _SECTIONS:
            raise here.error(
                f"unexpected key {key!r} in group {name!r}",
                path=".".join(map(str, (*path, key))),
                hint=did_you_mean(str(key), _SECTIONS),
            )
        if isinstance(section, str):
            section = LocatedMapping({section: None}, {section: here})
        if section is None:
            continue
        if not isinstance(section, LocatedMapping):
            hint = "write `name:` for each, without a dash" if isinstance(section, LocatedList) else None
            raise here.error(f"{key!r} of group {name!r} must be a mapping", hint=hint)
        _read_section(inventory, name, key, section, path)


def _read_section(
    inventory: Inventory, group: str, key: str, section: LocatedMapping, path: tuple[object, ...]
) -> None:
    for name, value in section.items():
        place = section.places[name]
        if key == "vars":
            inventory.set_variable(group, name, value, place)
        elif key == "children":
            _read_group(inventory, name, value, place, (*path, key, name))
            inventory.add_child(group, name, place)
        else:
            _read_hosts(inventory, group, name, value, place)


def _read_hosts(inventory: Inventory, group: str, pattern: Any, value: Any, place: SourceLocation) -> None:
    if not isinstance(pattern, str) or not pattern:
        raise place.error(f"a host's name must be text, not {pattern!r}", hint="quote it")
    try:
        names, port = expand(pattern)
    except ValueError as error:
        raise place.error(
            f"host {pattern!r}: {error}", hint="write web[1:3], web[01:10:2] or web[a:f]"
        ) from None
    if value and not isinstance(value, LocatedMapping):
        raise place.error(
            f"host {pattern!r} must be followed by a mapping of variables or by nothing",
            hint="is there a blank missing after a colon?" if isinstance(value, str) else None,
        )
    for name in names:
        inventory.add_host(name, group, place=place, port=port)
        for variable, content in (value or {}).items():
            inventory.set_variable(name, variable, content, value.places[variable])


# An executable


def _read_script(inventory: Inventory, path: Path, shown: str) -> None:
    place = SourceLocation(shown)
    answer = _run(path, place, "--list")
    if not isinstance(answer, dict):
        raise place.error("the inventory program must print a JSON object for --list")
    meta = answer.pop("_meta", {})
    variables = meta.get("hostvars") if isinstance(meta, dict) else None
    if variables is not None and not isinstance(variables, dict):
        raise place.error("_meta.hostvars must be an object")
    hosts: dict[str, None] = {}
    for name, value in answer.items():
        hosts.update(dict.fromkeys(_read_script_group(inventory, name, value, place)))
    for host in hosts:
        own = variables.get(host) if variables is not None else _run(path, place, "--host", host)
        if own is not None and not isinstance(own, dict):
            raise place.error(f"the variables of host {host!r} must be an object")
        for name, value in (own or {}).items():
            inventory.set_variable(host, name, located(value, place), place)


def _read_script_group(inventory: Inventory, name: str, value: object, place: SourceLocation) -> list[str]:
    inventory.add_group(name)
    if not isinstance(value, dict):
        value = {"hosts": value}
    elif not any(section in value for section in _SECTIONS):
        value = {"hosts": [name], "vars": value}
    hosts, children, variables = value.get("hosts", []), value.get("children", []), value.get("vars", {})
    if not isinstance(hosts, list) or not isinstance(children, list) or not isinstance(variables, dict):
        raise place.error(f"group {name!r}: hosts and children must be lists, vars an object")
    for entry in (*hosts, *children):
        if not isinstance(entry, str) or not entry:
            raise place.error(f"group {name!r}: {entry!r} is no name")
    for host in hosts:
        inventory.add_host(host, name, place=place)
    for variable, content in variables.items():
        inventory.set_variable(name, variable, located(content, place), place)
    for child in children:
        inventory.add_group(child)
        inventory.add_child(name, child, place)
    return hosts


def _run(path: Path, place: SourceLocation, *arguments: str) -> object:
    shown = " ".join(arguments)
    try:
        done = subprocess.run(
            [str(path), *arguments], stdin=subprocess.DEVNULL, capture_output=True,
            timeout=SCRIPT_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise place.error(
            f"the inventory program took longer than {SCRIPT_TIMEOUT_S:g} s for {shown}"
        ) from None
    except OSError as error:
        raise place.error(
            f"the inventory program can't be run: {error.strerror}",
            hint="does its first line name an interpreter? If it is no program: chmod -x " + place.file,
        ) from None
    errors = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0:
        raise place.error(
            f"the inventory program exited with {done.returncode} for {shown}", hint=errors[-500:] or None
        )
    if arguments[0] == "--host" and not done.stdout.strip():
        return {}
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise place.error(f"the inventory program printed no JSON for {shown}: {error}") from None
