"""Build a deploy: facts, desired states, stacks and calls of the selected servers."""

from __future__ import annotations

from collections.abc import Callable

from voiceops.deploy.agent_calls import ProofCalls
from voiceops.deploy.facts_cache import FactsCache
from voiceops.deploy.host_stacks import HostStacks
from voiceops.deploy.host_states import HostStates
from voiceops.deploy.operations import DeployDisplay, Deployer, DeployOptions, DeployParts
from voiceops.wiring.agent_calls import agent_calls
from voiceops.wiring.project import Project


def deployer(project: Project, options: DeployOptions, view: DeployDisplay) -> Deployer:
    """A deploy with everything real."""
    parts = DeployParts(
        facts=FactsCache(project.root),
        states=HostStates(project.configuration, view.say),
        stacks=host_stacks(project, view),
        calls=proof_calls(project, view.say),
    )
    return Deployer(parts, options, view)


def host_stacks(project: Project, view: DeployDisplay) -> HostStacks:
    """The stacks of servers, over connections that are open already."""
    return HostStacks(project.rooms_memory, view.service, view.say)


def proof_calls(project: Project, say: Callable[[str], None]) -> ProofCalls:
    """The calls by which agents of the selected servers prove themselves."""
    return ProofCalls(
        agent_calls(),
        selected=project.hosts,
        everywhere=lambda: project.configuration.select(group="all"),
        say=say,
    )
