"""Which server and agent a call goes to."""

from __future__ import annotations

from collections.abc import Sequence

from voiceops.errors import UsageError
from voiceops.model.calls import CallTarget
from voiceops.model.roles import Role
from voiceops.model.settings import Host


def call_target(hosts: Sequence[Host], *, service: str = "", room: str = "") -> CallTarget:
    """The one server and agent that the selected hosts share; ``UsageError`` where they differ.

    Where some of the hosts run an agent, callers dial what these agents are registered at: the
    nodes of a cluster have addresses of their own. Nodes that share a Redis are one server, and the
    first of them is dialled.
    """
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
