"""Names that two processes must agree on: agentkit in the agent, voiceops outside."""

from __future__ import annotations

READY_ATTRIBUTE = "voiceops.ready"
"""Participant attribute that an agent sets to ``"1"`` once it listens to the caller. Anything else
says that it serves nobody (any more) though it is in the room; agentkit's agents leave instead."""
READY_TOPIC = "voiceops.ready"
"""Data topic of the message that says the same to those already in the room."""
ALIVE_TOPIC = "voiceops.alive"
"""Data topic on which a ready agent says every ``ALIVE_EVERY_S`` that it lives: of one that was killed, LiveKit tells
callers only after 20 s."""
ALIVE_EVERY_S = 1.0
ROOM_CLEANUP_TOPIC = "room_cleanup"
"""Data topic by which a leaving client asks the agent to end the call and the room at once."""

CALL_ROOM_PREFIX = "voiceops-call-"
"""Rooms that a synthetic caller makes and deletes; agents only leave them."""
SYNTHETIC_CALLER_PREFIX = "voiceops-caller-"
"""Identities of synthetic callers, also in rooms of other names: whoever places their calls records them."""
NOBODY_TIMEOUT_S = 60.0
"""How long a ready agent waits for the first person of its room; then nobody will come."""

AGENT_STATE_ATTRIBUTE = "lk.agent.state"
"""Set by livekit-agents' AgentSession; see ``LISTENING_STATES``."""
LISTENING_STATES = frozenset({"listening", "thinking", "speaking"})

AGENT_STARTS = "loading the agent"
"""agentkit's first log line: a diagnosis takes what follows the last one for the current run."""

CALL_LOGGER = "voiceops.agentkit.calls"
"""The logger of the lines by which a call can be followed from outside, and their messages:"""
CALLER_JOINED = "caller joined"
CALLER_LEFT = "caller left"
CALL_READY = "call ready"
CALL_ENDED = "call ended"
CALL_STEPS = frozenset({CALLER_JOINED, CALLER_LEFT, CALL_READY, CALL_ENDED})
ROOM_CLOSED = "room closed"
"""The reason of a ``call ended`` that ends the callers' calls too."""

HEALTH_SOCKET_ENV = "VOICEOPS_HEALTH_SOCKET"
"""Path of the unix socket on which agentkit answers HTTP ``GET /health`` and ``/metrics``."""
HEALTH_PORT_ENV = "VOICEOPS_HEALTH_PORT"
"""TCP port on loopback for the same, when one is configured."""
MAX_JOBS_ENV = "MAX_CONCURRENT_JOBS"
LOAD_LIMIT_ENV = "VOICEOPS_LOAD_LIMIT"
"""The share of CPU, above 0 up to 1, from which a worker takes no more calls, or ``off``."""
TARGET_LOAD = 0.7
"""livekit-server offers no call to a node whose workers all report this load or more (its ``agents.target_load``)."""
MOST_SHARE = 0.5
"""Of new calls, for one of two workers: a reported load is never below 0, so beside an idle one no larger share can be had."""
SERVICE_ENV = "VOICEOPS_SERVICE"
"""``PROJECT_ROOT_HASH/SERVICE/CONFIG_DIGEST`` of a started process: how strays are told from ours."""
PROBE_CALL_ENV = "VOICEOPS_PROBE_CALL"
"""Set for a call that the monitor places: the monitor records it."""
LAUNCH_ENV = "VOICEOPS_LAUNCH"
"""Names one run of a service: what it started shares it, and is found by it when the run has died."""

CALL_STEPS_ENV = "VOICEOPS_CALL_STEPS"
"""Path of a file to which agentkit adds those lines without the rooms, for a monitor that may not read its log."""

WEBHOOK_PATH = "/livekit"
"""Where a monitor takes LiveKit's webhooks."""

ONLY_WORKERS_ENV = "VOICEOPS_ONLY_WORKERS"
"""Set for the monitor of a server: no other host of the inventory has workers for its LiveKit."""
HOST_NAME_ENV = "VOICEOPS_HOST"
"""Set for the monitor of a server: the host's name in the inventory, under which the history has it."""
