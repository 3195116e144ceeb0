"""From observed services to the facts of a diagnosis, on whatever machine they were observed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from voiceops.doctor.facts import BrokenService, WorkerFact
from voiceops.errors import ConfigError
from voiceops.health.agent import AgentHealth
from voiceops.model.roles import Role
from voiceops.model.server import ServerFact
from voiceops.model.settings import ServiceBase, Settings
from voiceops.model.states import ServiceState
from voiceops.remote.messages import UnitState
from voiceops.stack.model import Instance, Observed, judge

_ON_THEIR_WAY = (ServiceState.STARTING, ServiceState.DRAINING)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDetails:
    """What is known of one running worker beyond what reconcile needs."""

    url: str = ""
    stopped: bool = False
    folder_deleted: bool = False
    """The folder of its health socket is gone."""
    health: AgentHealth | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedStack:
    """The services of one machine, observed at ``now``."""

    settings: Settings
    observed: Mapping[str, Observed]
    digests: Mapping[str, str]
    """Of each service that is declared there."""
    now: float
    code_folder: str = ""
    details: Callable[[Instance], WorkerDetails] = field(repr=False)

    def server(self, asked: ServerFact) -> ServerFact:
        """What was asked of the server behind ``livekit.url``, with its service if this machine runs it."""
        livekit = self.settings.livekit
        services = self.settings.services
        name = next((n for n in self.digests if n in services and services[n].role is Role.SERVER), "")
        verdict = judge(self.observed.get(name, Observed())) if name else None
        return replace(
            asked,
            url=livekit.url,
            secret_bytes=len(livekit.api_secret.reveal()),
            declared=bool(name),
            service=name or "livekit",
            state=verdict.state if verdict else None,
            detail=verdict.detail if verdict else "",
            stopped=bool(verdict and verdict.instance and self.details(verdict.instance).stopped),
            foreign_owner=verdict.foreign_owner if verdict else "",
            started_at=self.now - verdict.instance.age_s if verdict and verdict.instance else None,
        )

    def dead_monitors(self, wanted: Collection[str]) -> tuple[str, ...]:
        """The monitors among the ``wanted`` services that have no process."""
        return tuple(
            name
            for name, service in self.settings.running.items()
            if service.watches
            and name in wanted
            and judge(self.observed.get(name, Observed())).instance is None
        )

    def broken_services(self, wanted: Collection[str]) -> Iterator[BrokenService]:
        """The ``wanted`` services beside LiveKit, agents and monitors that do not do their job."""
        services = self.settings.running
        verdicts = {name: judge(self.observed.get(name, Observed())) for name in services}
        undone = {
            name for name, one in services.items() if one.oneshot and name in wanted and not verdicts[name].ok
        }
        for name, service in services.items():
            verdict = verdicts[name]
            if verdict.instance is None and undone.intersection(service.needs):
                continue  # it waits for a one-shot, whose finding explains that
            # What is not brought back when it ends may have done its job.
            ends_by_itself = service.restart_policy != "always" and not service.oneshot
            left_out = service.role is not Role.OTHER or service.watches or ends_by_itself
            if left_out or name not in wanted or verdict.ok or verdict.state in _ON_THEIR_WAY:
                continue
            yield BrokenService(
                name=name,
                state=verdict.state,
                detail=verdict.detail,
                needed_by=tuple(other for other, one in services.items() if name in one.needs),
                foreign_owner=verdict.foreign_owner,
                stopped=verdict.instance is not None and self.details(verdict.instance).stopped,
                ended=verdict.instance is not None and not verdict.instance.pid,
                refused=verdict.instance is not None and verdict.instance.refused,
                oneshot=service.oneshot,
                run_again=service.restart_policy != "never",
            )

    def changed_services(self) -> Iterator[Instance]:
        """The running services beside LiveKit, agents and monitors whose configuration is an older one."""
        for name, service in self.settings.running.items():
            instance = judge(self.observed.get(name, Observed())).instance
            if service.role is not Role.OTHER or service.watches or service.oneshot or instance is None:
                continue
            if name in self.digests and instance.digest != self.digests[name]:
                yield instance

    def workers(self) -> Iterator[WorkerFact]:
        """Each declared agent, and each older run of it that still drains."""
        for name, service in self.settings.services.items():
            if service.role is not Role.AGENT or name not in self.digests:
                continue
            seen = self.observed.get(name, Observed())
            first = self._worker(name, service, seen)
            yield first
            for one in seen.draining:
                if one.pid != first.pid:
                    yield self._running(name, service, one, ServiceState.DRAINING)

    def _worker(self, name: str, service: ServiceBase, seen: Observed) -> WorkerFact:
        verdict = judge(seen)
        if verdict.instance is None:
            return WorkerFact(
                service=name,
                agent_name=service.agent_name,
                state=verdict.state,
                detail=verdict.detail,
                pids=verdict.pids,
                url=self.settings.livekit.url,
                foreign_owner=verdict.foreign_owner,
                code_folder=self.code_folder,
            )
        fact = self._running(name, service, verdict.instance, verdict.state)
        return replace(
            fact,
            detail=verdict.detail or fact.detail,
            pids=verdict.pids or fact.pids,
            foreign_owner=verdict.foreign_owner,
            release_current=verdict.instance.digest == self.digests[name],
        )

    def _running(
        self, name: str, service: ServiceBase, instance: Instance, state: ServiceState
    ) -> WorkerFact:
        details = self.details(instance)
        health = details.health
        return WorkerFact(
            service=name,
            agent_name=service.agent_name,
            state=state,
            detail=instance.detail,
            pid=instance.pid,
            url=details.url,
            started_at=self.now - instance.age_s,
            stopped=details.stopped,
            folder_deleted=details.folder_deleted,
            draining=state is ServiceState.DRAINING,
            pids=(instance.pid,),
            answers=health is not None,
            registered=health.registered if health else None,
            registered_name=health.agent_name if health else None,
            code_folder=self.code_folder,
            calls=health.calls if health else 0,
            rooms=tuple(health.rooms) if health else (),
            load=health.load if health else None,
            load_limit=health.load_limit if health else None,
            refused_for_load=health.refused_for_load if health else 0,
            max_jobs=health.max_jobs if health else service.max_concurrent_jobs,
        )


def without_livekit(settings: Settings, *, local: bool = True) -> ServerFact | None:
    """Return the fact that a stack has nothing to do with LiveKit, by its services and keys; None: it has.

    On a server its services alone tell: the keys are those of other hosts, and so is ``livekit.url``.
    """
    if any(one.role is not Role.OTHER or one.watches or one.page_port for one in settings.running.values()):
        return None
    if settings.running and not local:
        return ServerFact(url="", reachable=False, used=False)
    try:
        settings.livekit.api_key.reveal()
    except ConfigError:
        return ServerFact(url="", reachable=False, used=False)
    return None


def details_of(unit: UnitState | None) -> WorkerDetails:
    """Return what a server's unit and its agent say."""
    if unit is None:
        return WorkerDetails()
    return WorkerDetails(
        url=unit.get("url", ""),
        stopped=unit.get("stopped", False),
        health=_agent_health(unit.get("health")),
    )


def _agent_health(said: object) -> AgentHealth | None:
    """Return what the agent said of itself; None for nothing, and for what makes no sense."""
    try:
        return msgspec.convert(said, AgentHealth) if said else None
    except msgspec.ValidationError:
        return None
