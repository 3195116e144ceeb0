"""From a file to hosts with settings: find, read, merge, resolve, check, select."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from voiceops.config import checks
from voiceops.config.decode import Decoder, KindRegistry, fields_of, plain
from voiceops.config.inventory.hostnames import split_port
from voiceops.config.inventory.model import LOCAL_NAMES, Inventory
from voiceops.config.inventory.patterns import match
from voiceops.config.key_rotation import rotated_variable
from voiceops.config.secrets import is_reference, is_secret_name, secret_from
from voiceops.config.source.dotenv import Environment
from voiceops.config.source.located import LocatedMapping, SourceLocation, location_of
from voiceops.config.source.sources import read_inventory
from voiceops.config.ssh_variables import harmless, ssh_name, ssh_port
from voiceops.errors import ConfigError, UsageError
from voiceops.model.secret import Secret
from voiceops.model.settings import Host, Settings
from voiceops.util.suggest import closest, did_you_mean, resembles

_LOCAL_CONNECTIONS = ("local", "ansible.builtin.local")
_SSH_CONNECTIONS = ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh")
_DEFAULT_KEYS = {"api_key": "LIVEKIT_API_KEY", "api_secret": "LIVEKIT_API_SECRET"}
_URL_VARIABLE = "LIVEKIT_URL"
_OVERRIDES = {
    "ROOM_STALE_TIMEOUT": ("stale_after_s", 1.0),
    "LIVEKIT_AGENT_WAIT_TIMEOUT": ("agent_wait_timeout_s", 0.001),
}
"""Variables over settings of ``rooms``, with what one unit of the variable is in seconds."""
_PROJECT_MAX = 28
"""``vo-PROJECT`` names a system user."""
_REFERENCE_PATH = re.compile(r"services\.[^.]+\.(env\.[^.]+|config\..+)")
"""Where a reference to a secret may stand under any name."""


def find_inventory(flag: str, beside: Path) -> Path:
    """The inventory: the flag, VOICEOPS_INVENTORY, beside tasks.py, then upwards from here."""
    for named, by in (
        (flag, "--inventory"),
        (os.environ.get("VOICEOPS_INVENTORY", ""), "VOICEOPS_INVENTORY"),
    ):
        if named:
            path = Path(named).expanduser()
            if not path.exists():
                raise ConfigError(
                    f"there is no such inventory (named by {by})",
                    file=named,
                    hint="name a file, a folder or an executable; without it the inventory.yaml of this folder counts",
                )
            return path.absolute()
    here = Path.cwd()
    for folder in dict.fromkeys((beside, here, *here.parents)):
        if (folder / "inventory.yaml").is_file():
            return folder / "inventory.yaml"
    raise ConfigError(
        f"no inventory.yaml in {here} or above it",
        hint="make a project with `inv init`, or name one by --inventory",
    )


@dataclass(slots=True)
class Configuration:
    """An inventory and the settings of its hosts, decoded once each."""

    inventory: Inventory
    environment: Environment
    kinds: KindRegistry
    _hosts: dict[str, Host] = field(default_factory=dict)
    _settings: list[tuple[LocatedMapping, Settings]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, kinds: KindRegistry) -> Configuration:
        """Read the inventory and check the settings of every host in it. ``kinds``: ``voiceops.kinds``."""
        inventory = read_inventory(path)
        configuration = cls(inventory, Environment(inventory.folder), kinds)
        for name in inventory.hosts:
            configuration.settings_of(inventory.variables(name), configuration.place(name), complete=False)
        return configuration

    def place(self, host: str) -> SourceLocation:
        """Where to point when a setting of a host is missing."""
        all_vars = self.inventory.groups["all"].vars
        declared = self.inventory.hosts.get(host)
        if all_vars.places:
            return SourceLocation(next(iter(all_vars.places.values())).file)
        if declared is not None and declared.place is not None:
            return declared.place
        return SourceLocation(os.path.relpath(self.inventory.file))

    def host(self, name: str, *, user: str | None = None, port: int | None = None) -> Host:
        """A host with its settings; a name of no source has the variables of ``all``."""
        if name in self._hosts and user is None and port is None:
            return self._hosts[name]
        variables = self.inventory.variables(name)
        place = self.place(name)
        implicit = name not in self.inventory.hosts
        connection = variables.get("ansible_connection")
        if implicit and name in LOCAL_NAMES and user is None:
            connection = "local"
        if connection not in (*_LOCAL_CONNECTIONS, *_SSH_CONNECTIONS, None):
            raise location_of(variables, ("ansible_connection",), place).error(
                f"voiceops can't use the connection {connection!r} of host {name}",
                path="ansible_connection",
                hint="use local or ssh",
            )
        groups = self.inventory.groups_of(name) - {"all"}
        local = connection in _LOCAL_CONNECTIONS
        settings = self.settings_of(variables, place, complete=True)
        if not local and len(settings.project) > _PROJECT_MAX:
            raise location_of(variables, ("project",), place).error(
                f"{settings.project!r} is too long to name a user on a server",
                path="project",
                hint=f"use at most {_PROJECT_MAX} characters",
            )
        host = Host(
            name=name,
            local=local,
            address=name if implicit and not local else ssh_name(variables, "ansible_host", place) or name,
            user=user or ssh_name(variables, "ansible_user", place),
            port=port or ssh_port(variables, place),
            groups=self.inventory.merge_order(groups),
            settings=settings,
            vars=self.template_variables(name, variables, place),
        )
        if user is None and port is None:
            self._hosts[name] = host
        return host

    def settings_of(self, variables: LocatedMapping, place: SourceLocation, *, complete: bool) -> Settings:
        """The typed settings among the variables; equal variables are decoded once."""
        known = fields_of(Settings)
        own = LocatedMapping()
        for name, value in variables.items():
            if name in known:
                own[name] = value
            elif isinstance(name, str) and not name.startswith("ansible_"):
                _reject_near_miss(name, known, location_of(variables, (name,), place))
        own.places = variables.places
        if complete and "project" not in own:
            own["project"] = ""
        for seen, settings in self._settings:
            if seen == own and (settings.project or not complete):
                return settings
        settings = self._decode(own, place, complete=complete)
        self._settings.append((own, settings))
        return settings

    def _decode(self, own: LocatedMapping, place: SourceLocation, *, complete: bool) -> Settings:
        decoder = Decoder(own, place, self.environment, self.kinds)
        source = own if "project" in own else LocatedMapping({**own, "project": ""}, own.places)
        settings: Settings = decoder.decode(Settings, source, ())
        settings = self._with_defaults(settings, own, place)
        try:
            checks.check(settings, decoder, complete=complete)
        except ConfigError as error:
            if error.path == "livekit.url" and "url" not in (own.get("livekit") or {}):
                raise ConfigError(f"the variable {_URL_VARIABLE}: {error.bare}", hint=error.hint) from None
            raise
        return self._with_overrides(settings)

    def _with_defaults(self, settings: Settings, own: LocatedMapping, place: SourceLocation) -> Settings:
        """Where LiveKit is and its keys, from the variables that LiveKit's own tools read.

        The URL counts only where ``.env`` has a line for it: many shells export that of another server.
        """
        declared = own.get("livekit") or {}
        url = self.environment.get(_URL_VARIABLE) if _URL_VARIABLE in self.environment.dotenv() else None
        defaults: dict[str, object] = {"url": url} if url and "url" not in declared else {}
        defaults |= {
            name: secret_from(LocatedMapping({"env": variable}), self.environment, place, f"livekit.{name}")
            for name, variable in _DEFAULT_KEYS.items()
            if name not in declared
        }
        livekit = msgspec.structs.replace(settings.livekit, **defaults)
        defaults = {
            f"{which}_{name}": secret_from(
                LocatedMapping({"env": variable}), self.environment, place, f"livekit.{which}_{name}"
            )
            for which in ("next", "previous")
            for name in _DEFAULT_KEYS
            if f"{which}_{name}" not in declared
            and (variable := rotated_variable(getattr(livekit, name), which)) in self.environment.dotenv()
        }
        return msgspec.structs.replace(settings, livekit=msgspec.structs.replace(livekit, **defaults))

    def _with_overrides(self, settings: Settings) -> Settings:
        changes: dict[str, float] = {}
        for variable, (name, unit_s) in _OVERRIDES.items():
            text = self.environment.get(variable)
            if text is None:
                continue
            try:
                value = float(text) * unit_s
            except ValueError:
                value = -1.0
            if not 0 <= value < float("inf"):
                unit = "seconds" if unit_s == 1.0 else "milliseconds"
                raise ConfigError(f"the variable {variable} must be a number of {unit}", path=f"rooms.{name}")
            changes[name] = value
        if not changes:
            return settings
        return msgspec.structs.replace(settings, rooms=msgspec.structs.replace(settings.rooms, **changes))

    def notices(self, hosts: Iterable[Host]) -> list[str]:
        """What of ``.env`` these hosts leave unused though it looks as if it were used."""
        url = self.environment.dotenv().get(_URL_VARIABLE)
        urls = {host.settings.livekit.url for host in hosts}
        if not url or url in urls:
            return []
        if self.environment.get(_URL_VARIABLE) in urls:
            return [f"{_URL_VARIABLE} of the environment is used instead of the one in .env"]
        shown = ", ".join(sorted(urls))
        return [f"{_URL_VARIABLE} in .env is not used: livekit.url in the inventory says {shown}"]

    def pointed(self, host: str, error: ConfigError) -> ConfigError:
        """The same error with the file and line where its path is written."""
        if error.file is not None or error.path is None:
            return error
        place = location_of(self.inventory.variables(host), error.path.split("."), self.place(host))
        return place.error(error.bare, path=error.path, hint=error.hint)

    def template_variables(
        self, host: str, variables: LocatedMapping, place: SourceLocation
    ) -> dict[str, object]:
        """All variables of a host for templates, with the secrets among them as ``Secret``."""
        result = {
            str(name): self._guarded(name, value, location_of(variables, (name,), place), str(name))
            for name, value in variables.items()
        }
        return result | {
            "inventory_hostname": host,
            "inventory_hostname_short": host.split(".")[0],
            "group_names": sorted(self.inventory.groups_of(host) - {"all"}),
        }

    def _guarded(self, name: Any, value: Any, place: SourceLocation, path: str) -> object:
        if is_secret_name(name) or _REFERENCE_PATH.fullmatch(path):
            if is_reference(value):
                return secret_from(value, self.environment, place, path)
            if isinstance(value, str) and is_secret_name(name):
                return Secret(value)
        if isinstance(value, LocatedMapping):
            return {
                key: self._guarded(key, item, value.places.get(key, place), f"{path}.{key}")
                for key, item in value.items()
            }
        return plain(value)

    # Selecting

    def select(self, *, host: str = "", group: str = "", limit: str = "") -> tuple[Host, ...]:
        """The hosts that the flags name; without flags, this machine. Nothing matched: ``UsageError``."""
        chosen: dict[str, Host] = {}
        for name in _split(host, "--host"):
            found = self._named(name)
            chosen[found.name] = found
        for name in _split(group, "--group"):
            for member in self._members(name):
                chosen.setdefault(member, self.host(member))
        if limit:
            matched = match(self.inventory, limit)
            if host or group:
                chosen = {name: one for name, one in chosen.items() if name in matched}
            else:
                chosen = {name: self.host(name) for name in matched}
            if not chosen:
                raise UsageError(
                    f"the pattern {limit!r} matches no host" + (" of those named" if host or group else ""),
                    hint="`inv inventory --graph` shows groups and hosts",
                )
        return tuple(chosen.values()) if chosen else (self.this_machine(),)

    def this_machine(self) -> Host:
        """The host with a local connection; as in Ansible, ``localhost`` is there without being declared."""
        local = [
            name
            for name in self.inventory.hosts
            if self.inventory.variables(name).get("ansible_connection") in _LOCAL_CONNECTIONS
        ]
        for name in LOCAL_NAMES:
            if name in local:
                return self.host(name)
        if len(local) > 1:
            raise UsageError(
                f"{len(local)} hosts have a local connection", hint=f"name one: --host {local[0]}"
            )
        if not local and "localhost" in self.inventory.hosts:
            place = self.inventory.hosts["localhost"].place or SourceLocation(
                os.path.relpath(self.inventory.file)
            )
            raise place.error(
                "localhost is declared without a local connection, so it would be reached by ssh",
                path="ansible_connection",
                hint="write localhost: {ansible_connection: local}, or name it by --host localhost",
            )
        return self.host(local[0] if local else "localhost")

    def _named(self, text: str) -> Host:
        user, at, address = text.rpartition("@")
        if not at:
            if text in self.inventory.hosts or text in LOCAL_NAMES:
                return self.host(text)
            raise UsageError(
                f"there is no host {text!r} in the inventory",
                hint=_host_hint(text, self.inventory),
            )
        parsed = split_port(address)
        if not user or parsed is None or "[" in parsed[0]:
            raise UsageError(
                f"{text!r} is no user@name[:port]", hint="an IPv6 address with a port: user@[::1]:22"
            )
        name, port = parsed
        if not (harmless(user) and harmless(name)):
            raise UsageError(f"{text!r} can't be given to ssh", hint="write it as user@name[:port]")
        if port is not None and not 1 <= port <= 65535:
            raise UsageError(f"{text!r}: a port is from 1 to 65535")
        return self.host(name, user=user, port=port)

    def _members(self, group: str) -> list[str]:
        if group not in self.inventory.groups:
            raise UsageError(
                f"there is no group {group!r} in the inventory",
                hint=did_you_mean(group, self.inventory.groups),
            )
        hosts = self.inventory.hosts_of(group)
        if not hosts:
            raise UsageError(
                f"the group {group!r} has no hosts", hint="`inv inventory --graph` shows who is where"
            )
        return hosts


def _host_hint(text: str, inventory: Inventory) -> str:
    if text in inventory.groups:
        return f"{text!r} is a group: --group {text}"
    if not set(text).isdisjoint("*?[~&!:"):
        return f"patterns go to --limit '{text}'"
    best = closest(text, inventory.hosts)
    seen = f"did you mean {best!r}?" if best else "`inv inventory --graph` shows those that are there."
    return f"{seen} A host of no inventory is written as --host user@{text}"


def _reject_near_miss(name: str, known: Iterable[str], place: SourceLocation) -> None:
    for setting in known:
        if name != setting and resembles(name, setting):
            raise place.error(
                f"the variable {name!r} is none of voiceops, but looks like one",
                path=name,
                hint=f"did you mean {setting!r}? If it is your own, give it another name",
            )


def _split(value: str, flag: str) -> list[str]:
    if not value:
        return []
    parts = [part.strip() for part in value.split(",")]
    if not all(parts):
        raise UsageError(f"empty name in {flag} {value!r}", hint="write names as a,b")
    return parts
