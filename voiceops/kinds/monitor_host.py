"""The monitor of a server: its unit, what it knows of the host, and the root helper that restarts for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from voiceops.kinds import kind_of
from voiceops.kinds.environment import digest_of, service_environment, withheld_names
from voiceops.kinds.host import HOST_TASKS, HostContext
from voiceops.kinds.model import Declared, HostDeclaration
from voiceops.model import protocol
from voiceops.model.quoting import json_for_yaml
from voiceops.model.roles import Role
from voiceops.model.secret import Secret
from voiceops.model.settings import ServiceBase, Settings
from voiceops.resources import Directory, File, Resource, Symlink, Unit
from voiceops.systemd import escape
from voiceops.systemd.names import RESTART_PROGRAM
from voiceops.systemd.units import UnitFile, UnitWriter

_WATCHDOG_S = 30.0
_HELPER_S = 25.0
"""More than the helper's own deadline."""


def declare_monitor(outline: Declared, service: ServiceBase, host: HostContext) -> HostDeclaration:
    """Return what a server gets for its monitor."""
    name, names, venv = outline.name, host.names, host.venv
    assert venv is not None
    folder = f"{names.etc}/{name}"
    # Its real name: the monitor imports some modules late, and must stay with those that it was started with.
    python = f"{venv.path}-{venv.digest}/bin/python"
    secrets = SecretReferences()
    inventory = json_for_yaml(host_inventory(host.settings, secrets), indent=1) + "\n"
    unit, socket, helper = monitor_units(host.units, name, service, python=python, folder=folder)
    env = service_environment(service, host.dotenv) | secrets.environment
    env[protocol.HOST_NAME_ENV] = host.host_name
    if host.settings.runs(Role.AGENT) and host.only_worker():
        env[protocol.ONLY_WORKERS_ENV] = "1"
    digest = digest_of(unit.text, inventory, env)
    socket_file = host.unit_file(socket)
    resources: tuple[Resource, ...] = (
        Directory(path=folder, owner="root", mode=0o755),
        File(path=f"{folder}/inventory.yaml", content=inventory, owner="root", mode=0o644),
        File(path=f"{folder}/tasks.py", content=HOST_TASKS, owner="root", mode=0o644),
        Symlink(path=f"{folder}/.voiceops", target=names.data_of(name)),
        Symlink(path=f"{folder}/venv", target=f"{venv.path}-{venv.digest}"),
        host.script(names.restart_script, RESTART_PROGRAM),
        host.environment(name, "", env, digest),
        host.unit_file(helper),
        socket_file,
        host.unit_file(unit),
        Unit(name=socket.name, enabled=True, running=True, restart_on=[socket_file], settle_s=0.0),
        host.enabled(unit),
    )
    return HostDeclaration(
        declared=replace(
            outline,
            digest=digest,
            cwd=Path(folder),
            needs=(),
            withheld=withheld_names(env, host.dotenv),
        ),
        resources=resources,
    )


def monitor_units(
    units: UnitWriter, name: str, service: ServiceBase, *, python: str, folder: str
) -> tuple[UnitFile, UnitFile, UnitFile]:
    """Return the monitor's unit, and socket and service of its root helper."""
    names = units.names
    helper_name = f"{name}-restart"
    socket_unit = names.unit(helper_name).replace(".service", ".socket")
    argv = [python, "-m", "voiceops", "--project", folder, "monitor"]
    values = {
        "exec_start": escape.command(argv, f"the command of {name}"),
        "watchdog_s": escape.time_span(_WATCHDOG_S),
        "working_directory": folder,
        "state_directory": f"{names.project}/{name}",
        "restart_socket": socket_unit,
    }
    asked = [names.restart_script, names.project, names.user, names.unit(name), names.lock]
    helper = {
        "socket": names.restart_socket(name),
        "exec_start": escape.command(asked, "the helper of the monitor"),
        "start_timeout_s": escape.time_span(_HELPER_S),
    }
    return (
        units.service("monitor.service", name, service, values),
        units.helper("monitor-restart.socket", helper_name, socket_unit, helper),
        units.helper("monitor-restart@.service", helper_name, names.template_unit(helper_name), helper),
    )


class SecretReferences:
    """Puts a reference to a variable in the place of each secret, and keeps the variables."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}

    def referenced(self, value: object, name: str) -> object:
        """``value`` as plain data; its secrets are variables that begin with ``name``."""

        def hide(one: object) -> object:
            if not isinstance(one, Secret):
                raise NotImplementedError
            if not one:
                return ""
            variable = name if name not in self.environment else f"{name}_{len(self.environment)}"
            self.environment[variable] = one.reveal()
            return {"env": variable}

        return msgspec.to_builtins(value, enc_hook=hide)


def host_inventory(settings: Settings, secrets: SecretReferences) -> Mapping[str, object]:
    """Return the inventory of the host alone, as its monitor reads it."""
    livekit: dict[str, object] = {"url": settings.livekit.url, "insecure": settings.livekit.insecure}
    if settings.runs(Role.SERVER) or settings.runs(Role.AGENT):
        livekit["api_key"] = secrets.referenced(settings.livekit.api_key, "LIVEKIT_API_KEY")
        livekit["api_secret"] = secrets.referenced(settings.livekit.api_secret, "LIVEKIT_API_SECRET")
        for which in ("next", "previous"):
            for name in (f"{which}_api_key", f"{which}_api_secret"):
                if secret := getattr(settings.livekit, name):
                    livekit[name] = secrets.referenced(secret, f"LIVEKIT_{name.upper()}")
    variables: dict[str, object] = {
        "project": settings.project,
        "livekit": livekit,
        # Those of other hosts too: rooms that hosts share may wait for any agent.
        "services": secrets.referenced(
            {name: _monitored(one) for name, one in settings.services.items()}, "VOICEOPS_REDIS"
        ),
        "run": list(settings.running),
        "rooms": msgspec.to_builtins(settings.rooms),
        "monitor": msgspec.to_builtins(settings.monitor),
        "metrics": msgspec.to_builtins(settings.metrics),
        "history": secrets.referenced(settings.history, "VOICEOPS_HISTORY_URL"),
        "alerts": secrets.referenced(settings.alerts, "VOICEOPS_ALERTS"),
    }
    return {"all": {"vars": variables, "hosts": {"localhost": {"ansible_connection": "local"}}}}


def _monitored(service: ServiceBase) -> dict[str, object]:
    return {
        **kind_of(service).as_monitored(service),
        # What a need is waited for decides at a start; here a service without probes stands for each kind.
        "needs": {
            need: "ready" if condition == "healthy" else condition
            for need, condition in service.need_conditions.items()
        },
        "restart": service.restart,
        "ready_timeout_s": service.ready_timeout_s,
    }
