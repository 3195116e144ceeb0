"""The composition root: the one place that builds real adapters from configuration."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from voiceops.calls.ports import Why
    from voiceops.calls.stats import CallReport
    from voiceops.config.project import Configuration
    from voiceops.model.calls import CallPlan, CallResult, CallTarget
    from voiceops.model.settings import Host
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
        from voiceops import kinds
        from voiceops.config.project import Configuration, find_inventory

        configuration = Configuration.read(find_inventory(inventory, tasks_folder()), kinds)
        return cls(
            root=configuration.inventory.folder,
            inventory_file=configuration.inventory.file,
            hosts=configuration.select(host=host, group=group, limit=limit),
            configuration=configuration,
        )

    def notices(self) -> list[str]:
        """What the user should know about the configuration, though it is no error."""
        return [*self.configuration.notices(self.hosts), *self._ignored_ssh_arguments()]

    def _ignored_ssh_arguments(self) -> list[str]:
        remote = [one for one in self.hosts if not one.local and any("_args" in name for name in one.vars)]
        if not remote:
            return []
        from voiceops.adapters.ssh.config import ssh_arguments

        found: dict[tuple[str, ...], list[str]] = {}
        for host in remote:
            found.setdefault(ssh_arguments(host.vars).ignored, []).append(host.name)
        return [
            f"{', '.join(hosts)}: ignored, as it means nothing to a single ssh connection: {', '.join(options)}"
            for options, hosts in found.items()
            if options
        ]

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
        from voiceops.wiring.stack import build_stack

        return build_stack(self, host, progress=progress, say=say)


def tasks_folder() -> Path:
    """The folder of the tasks.py that Invoke loaded, else the current one."""
    module = sys.modules.get("tasks")
    file = getattr(module, "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()


def call_target(hosts: Sequence[Host], *, service: str = "", room: str = "") -> CallTarget:
    """The one server and agent that the selected hosts share; ``UsageError`` where they differ.

    Where some of the hosts run an agent, callers dial what these agents are registered at: the
    nodes of a cluster have addresses of their own. Nodes that share a Redis are one server, and the
    first of them is dialled.
    """
    from voiceops.errors import UsageError
    from voiceops.model.calls import CallTarget
    from voiceops.model.roles import Role

    found: dict[tuple[str, str], tuple[str, CallTarget]] = {}

    for host in [host for host in hosts if host.settings.runs(Role.AGENT)] or hosts:
        livekit = host.settings.livekit
        server = next((one.cluster for one in host.settings.services.values() if one.cluster), livekit.url)
        agents = {
            name: one.agent_name
            for name, one in host.settings.services.items()
            if one.role is Role.AGENT and service in ("", name)
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
            found.setdefault((server, agent_name), (f"{name or 'agent'} at {livekit.url}", target))
    if not found:
        raise UsageError(
            f"no agent service is called {service!r}", hint="the services stand in inventory.yaml"
        )
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
    from voiceops.adapters.wav import read_wav
    from voiceops.calls.pool import CallerPool

    if plan.script:
        read_wav(plan.script)  # refused here, not once per call
    pool = CallerPool()
    try:
        # The caller process imports LiveKit's engine while this one imports the API.
        await pool.warm_up(plan)
        from voiceops.adapters.livekit.api import LivekitApi
        from voiceops.adapters.livekit.token import caller_token
        from voiceops.calls.desk import LivekitCallRooms
        from voiceops.calls.run import run_calls as run

        async with LivekitApi(target.url, target.api_key, target.api_secret) as api:
            desk = LivekitCallRooms(api, caller_token(target), agent_name=target.agent_name)
            return await run(plan, target, callers=pool, desk=desk, why=why, on_result=on_result)
    finally:
        await pool.aclose()


def place_call(target: CallTarget, *, timeout_s: float = 15.0, why: Why | None = None) -> CallResult:
    """One synthetic call, from synchronous code: the proof that an agent answers."""
    from voiceops.model.calls import CallPlan
    from voiceops.util import aio

    return aio.run(run_calls(target, CallPlan(timeout_s=timeout_s), why=why)).results[0]
