"""The composition root: the one place that builds real adapters from configuration."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from voiceops.calls.ports import Callers, Why
    from voiceops.calls.stats import CallReport
    from voiceops.config.project import Configuration
    from voiceops.model.calls import CallPlan, CallResult, CallTarget
    from voiceops.model.settings import Host
    from voiceops.stack.declare import Surroundings
    from voiceops.stack.folder import Folder
    from voiceops.stack.model import Declared
    from voiceops.stack.operations import Stack


@dataclass(frozen=True, slots=True)
class Project:
    """A loaded inventory, the hosts that the flags select, and factories for what acts on them."""

    root: Path
    """The folder of the inventory: relative paths and ``.voiceops/`` are here."""
    inventory_file: Path
    hosts: tuple[Host, ...]
    configuration: Configuration
    """The whole inventory, for commands that look beyond the selected hosts."""

    @classmethod
    def load(cls, *, inventory: str = "", host: str = "", group: str = "", limit: str = "") -> Project:
        """Read and check the configuration; ``ConfigError`` names file and line.

        Without ``host``, ``group`` and ``limit`` the only host is this machine. Secrets that are
        references are not fetched here.
        """
        from voiceops.config.project import Configuration, find_inventory

        configuration = Configuration.read(find_inventory(inventory, tasks_folder()))
        return cls(
            root=configuration.inventory.folder,
            inventory_file=configuration.inventory.file,
            hosts=configuration.select(host=host, group=group, limit=limit),
            configuration=configuration,
        )

    def ensure_local_keys(self) -> tuple[str, ...]:
        """Make the LiveKit keys that nobody has set; the names of the variables added to ``.env``.

        Only for a server that this project itself runs on this machine: the keys of any other
        server are not ours to make up. Safe to call again, and from many processes at once.
        """
        from voiceops.config.local_keys import ensure_keys_of

        made = [ensure_keys_of(host, self.configuration.environment) for host in self.hosts]
        return tuple(dict.fromkeys(name for names in made for name in names))

    def stack(
        self,
        host: Host,
        *,
        progress: Callable[[str, str, str], None] = lambda service, state, words: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> Stack:
        """The services of a host and what acts on them."""
        from voiceops.errors import UsageError

        if not host.local:
            raise UsageError(
                f"{host.name} is not this machine", hint="leave out --host, --group and --limit"
            )
        from voiceops.stack import declare
        from voiceops.stack.folder import Folder
        from voiceops.stack.lock import locked, this_command
        from voiceops.stack.operations import Stack
        from voiceops.stack.processes import ProcessBackend

        folder = Folder(self.root)
        around = self._surroundings(folder, progress)

        def services() -> tuple[Declared, ...]:
            self.ensure_local_keys()
            return declare.declare(host.settings, around)

        def fetch() -> None:
            for one in host.settings.services.values():
                if one.__struct_config__.tag == "livekit":
                    around.livekit_binary(one.version, one.binary)  # type: ignore[union-attr]

        return Stack(
            services=services,
            outline=declare.outline(host.settings, around),
            backend=ProcessBackend(folder, say=say),
            lock=lambda limit: locked(folder.base, limit, say, this_command()),
            fetch=fetch,
            progress=progress,
        )

    def count_rooms(self, host: Host, *, timeout_s: float = 3.0) -> int | None:
        """How many rooms the host's LiveKit has; None when it does not say."""
        from voiceops import aio
        from voiceops.adapters.livekit_api import LivekitApi
        from voiceops.deadline import deadline
        from voiceops.errors import VoiceopsError

        livekit = host.settings.livekit

        async def count() -> int:
            async with deadline(timeout_s, "counting rooms"):
                async with LivekitApi(livekit.url, livekit.api_key, livekit.api_secret) as api:
                    return len(await api.list_rooms())

        try:
            return aio.run(count())
        except VoiceopsError:
            return None

    def _surroundings(self, folder: Folder, progress: Callable[[str, str, str], None]) -> Surroundings:
        from voiceops.config.shipped import shipped
        from voiceops.stack.declare import Surroundings, find_template

        environment = self.configuration.environment

        def binary(version: str, configured: str | None) -> Path:
            from voiceops.adapters.binaries import livekit_server

            return livekit_server(
                version, configured, on_progress=lambda seen: progress("livekit", "fetching", str(seen))
            )

        return Surroundings(
            folder=folder,
            dotenv=lambda: {name: environment.get(name) or "" for name in environment.dotenv()},
            template=lambda name: find_template(
                name, (self.root / "templates", shipped("templates"))
            ),
            livekit_binary=binary,
        )


def tasks_folder() -> Path:
    """The folder of the tasks.py that Invoke loaded, else the current one."""
    module = sys.modules.get("tasks")
    file = getattr(module, "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()


def call_target(hosts: Sequence[Host], *, service: str = "", room: str = "") -> CallTarget:
    """The one server and agent that the selected hosts share; ``UsageError`` where they differ."""
    from voiceops.errors import UsageError
    from voiceops.model.calls import CallTarget
    from voiceops.model.settings import AgentService

    found: dict[tuple[str, str], tuple[str, CallTarget]] = {}
    for host in hosts:
        livekit = host.settings.livekit
        agents = {
            name: one.agent_name
            for name, one in host.settings.services.items()
            if isinstance(one, AgentService) and service in ("", name)
        }
        if service and not agents:
            continue
        for name, agent_name in (agents or {"": ""}).items():
            target = CallTarget(
                url=livekit.url,
                api_key=livekit.api_key,
                api_secret=livekit.api_secret,
                agent_name=agent_name,
                room=room,
            )
            found.setdefault((livekit.url, agent_name), (f"{name or 'agent'} at {livekit.url}", target))
    if not found:
        raise UsageError(f"no agent service is called {service!r}", hint="the services stand in inventory.yaml")
    if len(found) > 1:
        several = ", ".join(label for label, _ in found.values())
        raise UsageError(f"several agents can be called: {several}", hint="choose with --service and --host")
    return next(iter(found.values()))[1]


async def run_calls(
    target: CallTarget,
    plan: CallPlan,
    *,
    why: Why | None = None,
    on_result: Callable[[CallResult], None] | None = None,
) -> CallReport:
    """Place synthetic calls and delete the rooms they made; see ``voiceops.calls.run``."""
    from voiceops.adapters.caller_token import caller_token
    from voiceops.adapters.livekit_api import LivekitApi
    from voiceops.calls.desk import Desk
    from voiceops.calls.run import run_calls as run

    callers = _callers(plan)
    try:
        async with LivekitApi(target.url, target.api_key, target.api_secret) as api:
            desk = Desk(api, caller_token(target), agent_name=target.agent_name)
            return await run(plan, target, callers=callers, desk=desk, why=why, on_result=on_result)
    finally:
        await callers.aclose()


def place_call(target: CallTarget, *, timeout_s: float = 15.0, why: Why | None = None) -> CallResult:
    """One synthetic call, from synchronous code: the proof that an agent answers."""
    from voiceops import aio
    from voiceops.model.calls import CallPlan

    return aio.run(run_calls(target, CallPlan(timeout_s=timeout_s), why=why)).results[0]


def _callers(plan: CallPlan) -> Callers:
    from voiceops.calls.plan import lines_for
    from voiceops.calls.pool import CALLS_PER_PROCESS, CallerPool
    from voiceops.model.calls import Hangup

    if Hangup.ABRUPT in plan.hangups or lines_for(plan) > CALLS_PER_PROCESS:
        return CallerPool()
    from voiceops.adapters.livekit_rtc import RtcPhone
    from voiceops.calls.local import LocalCallers

    return LocalCallers(lambda job: RtcPhone(listen_on=bool(job.script)))
