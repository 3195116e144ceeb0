"""What is asked of the services of a server, and what their answers say of disks and configurations. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from voiceops.doctor.facts import FULL_BYTES, ChangedService, FullDisk
from voiceops.errors import ConfigError
from voiceops.kinds.model import Declared
from voiceops.kinds.program import probe_arguments
from voiceops.model.settings import ServiceBase, Settings
from voiceops.remote.diagnosis_messages import DiskState, ServiceProbe
from voiceops.remote.messages import UnitState
from voiceops.systemd.escape import environment_file
from voiceops.systemd.names import HostNames


def service_probes(settings: Settings, outline: Sequence[Declared]) -> list[ServiceProbe]:
    """Return how to ask each service but the agents, which answer on their own sockets."""
    names = HostNames(settings.project)
    services = settings.running
    return [
        _service_probe(names, one, services[one.name])
        for one in outline
        if not one.is_agent and not one.oneshot
    ]


def _service_probe(names: HostNames, service: Declared, settings: ServiceBase) -> ServiceProbe:
    try:
        env = dict(service.probe_env()) if service.probe_env else {}
        env.pop("PATH", None)  # that of this machine
        known = True
    except ConfigError:
        env, known = {}, False  # a secret that can't be had: a command that needs it would be refused
    arguments = probe_arguments(service.probe) if service.probe else []
    asks = bool(arguments) and (known or arguments[0] != "--")
    # What the inventory sets for the service itself wins over what its kind gives it.
    own = {name: value for name, value in env.items() if name not in {*settings.env, *settings.env_from}}
    return {
        "unit": names.unit(service.name),
        "argv": [names.ready_script, "--timeout-s", "0", *arguments] if asks else [],
        "env": env if arguments[:1] == ["--"] else {},
        "refusals": list(service.refusals),
        "environment": names.environment_file(service.name),
        "lines": {name: environment_file({name: value}) for name, value in own.items()},
    }


def data_folders(settings: Settings) -> dict[str, str]:
    """Return where services keep data, each with its service; not all of them do."""
    names = HostNames(settings.project)
    return {names.data_of(name): name for name in settings.running}


def undeployed_services(settings: Settings, units: Mapping[str, UnitState]) -> Iterator[ChangedService]:
    """The services whose variables on the host are others than the inventory's."""
    names = HostNames(settings.project)
    for name in settings.running:
        unit = units.get(names.unit(name))
        if unit is not None and unit["pid"] and unit.get("undeployed"):
            yield ChangedService(name=name, variables=tuple(unit["undeployed"]), undeployed=True)


def full_disks(settings: Settings, disks: Sequence[DiskState]) -> Iterator[FullDisk]:
    """The file systems on which nothing can be written."""
    for disk in disks:
        if disk["free_bytes"] < FULL_BYTES:
            yield FullDisk(
                folder=disk["folder"],
                data=tuple(disk["data"]),
                logs=tuple(settings.running) if disk["logs"] else (),
                free_bytes=disk["free_bytes"],
            )
