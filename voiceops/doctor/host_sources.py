"""The facts of a server's stack: units, health and journal by one exec over ssh, and LiveKit itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from voiceops.adapters.livekit.server import check_server
from voiceops.doctor.certificates import certificates
from voiceops.doctor.collect import LOG_WINDOW_S
from voiceops.doctor.facts import ChangedService, HostFact, LogEvent, WorkerFact
from voiceops.doctor.host_probes import data_folders, full_disks, service_probes, undeployed_services
from voiceops.doctor.logs import event_of
from voiceops.doctor.observed_stack import ObservedStack, WorkerDetails, details_of, without_livekit
from voiceops.errors import HostError
from voiceops.kinds.model import Declared
from voiceops.model.decoding import prepare
from voiceops.model.roles import Role
from voiceops.model.server import ServerFact
from voiceops.model.settings import Settings
from voiceops.ports import Transport
from voiceops.remote import verbs
from voiceops.remote.call import call
from voiceops.remote.diagnosis_messages import DiagnoseRequest, HostDiagnosis
from voiceops.remote.messages import UnitState
from voiceops.stack.logs.files import TimedLine
from voiceops.stack.model import Instance
from voiceops.stack.systemd import observe
from voiceops.systemd.names import HostNames

prepare(HostFact)  # hosts are asked side by side

DIAGNOSE_TIMEOUT_S = 30.0


@dataclass(slots=True, kw_only=True)
class HostSources:
    """Implements ``doctor.collect.Sources`` for one server; ``read`` first: all facts are taken from its answer."""

    settings: Settings
    """As the inventory has them."""
    endpoint_url: str
    """Where its LiveKit is reached from here."""
    transport: Transport
    outline: Sequence[Declared]
    address: str
    """Where its sites are reached from here."""
    _answer: HostDiagnosis | None = None

    def read(self, since: float | None = None) -> None:
        """Ask the host, once for all, with the journal ``since`` then. ``UnreachableError`` when it is down; ``HostError`` when bare."""
        names = HostNames(self.settings.project)
        services = self.settings.services
        told = [one.name for one in self.outline if services[one.name].role is not Role.OTHER]
        request: DiagnoseRequest = {
            **observe.host_probe(names, self.outline),
            "units": [f"{names.project}-{name}{part}.service" for name in told for part in ("", "@*")],
            "window_s": LOG_WINDOW_S if since is None else max(1.0, self.now() - since),
            "probes": service_probes(self.settings, self.outline),
            "folders": data_folders(self.settings),
        }
        answer = call(self.transport, verbs.DIAGNOSE, request, timeout_s=DIAGNOSE_TIMEOUT_S)
        current = answer["current"].get("services", {})
        missing = [service.name for service in self.outline if service.name not in current]
        if missing:
            raise HostError(
                f"{self.transport.name}: no deploy of {', '.join(missing)} has come to its end there",
                hint=f"`inv deploy --host {self.transport.name}` does it",
                data={"host": self.transport.name, "services": missing},
            )
        self._answer = answer

    @property
    def _seen(self) -> HostDiagnosis:
        if self._answer is None:
            self.read()
            assert self._answer is not None
        return self._answer

    @property
    def _units(self) -> dict[str, UnitState]:
        return {unit["unit"]: unit for unit in self._seen["units"]}

    def now(self) -> float:
        return time.time()

    async def server(self) -> ServerFact:
        """LiveKit as it answers here, and its unit if this host runs it."""
        if unused := without_livekit(self.settings, local=False):
            return unused
        livekit = self.settings.livekit
        asked = await check_server(self.endpoint_url, livekit.api_key, livekit.api_secret)
        return self._observed_stack().server(asked)

    async def workers(self) -> Sequence[WorkerFact]:
        return list(self._observed_stack().workers())

    async def events(self, since: float) -> Sequence[LogEvent]:
        """The journal's lines of LiveKit and the agents, oldest first."""
        names = HostNames(self.settings.project)
        lines = [TimedLine(at, names.split(unit)[0], text) for at, unit, text in self._seen["lines"]]
        return await asyncio.to_thread(lambda: [event_of(line) for line in lines])

    async def host(self) -> HostFact:
        machine = msgspec.convert(self._seen["machine"], HostFact)
        names = HostNames(self.settings.project)
        # One that a person has stopped is inactive; systemd gives up one that ends again and again.
        failed = observe.failed_units(names, self.outline, self._seen)
        wanted = observe.wanted_services(names, self.outline, self._seen)
        stack = self._observed_stack()
        undeployed = tuple(undeployed_services(self.settings, self._units))
        behind = {one.name for one in undeployed}
        return replace(
            machine,
            certificates=await asyncio.to_thread(
                lambda: tuple(certificates(self.settings.running, self.address))
            ),
            dead_monitors=stack.dead_monitors(failed),
            broken_services=tuple(stack.broken_services(wanted)),
            changed_services=(
                *undeployed,
                *(
                    ChangedService(name=one.service)
                    for one in stack.changed_services()
                    if one.service not in behind and self._units[one.launch]["active"] == "active"
                ),
            ),
            full_disks=tuple(full_disks(self.settings, self._seen["disks"])),
        )

    def _observed_stack(self) -> ObservedStack:
        seen = self._seen
        names = HostNames(self.settings.project)
        units = self._units

        def details(instance: Instance) -> WorkerDetails:
            return details_of(units.get(instance.launch))

        return ObservedStack(
            settings=self.settings,
            observed=observe.observed(names, self.outline, seen),
            digests={
                service.name: seen["current"]["services"][service.name]["digest"] for service in self.outline
            },
            now=seen["now"],
            details=details,
        )
